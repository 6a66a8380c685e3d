"""Every rule holds for a message made for it, and the innocent letter breaks none."""

from datetime import UTC, datetime
from typing import get_args

import pytest

from filters.spam.catalogue import rule_book
from filters.spam.rules import About, Pattern, Question, RuleBook
from filters.spam.sight import Circumstances, Sight, Standing
from tests.filters.spam.letters import BODY, attached, letter, page

NOW = datetime(2026, 11, 2, 10, 0, tzinfo=UTC)
HELD = Standing(answered=1)
LONG = "Ordinary words of a long letter. " * 90

MESSAGES: dict[str, bytes] = {
    "no_date": letter(Date=None),
    "bad_date": letter(Date="yesterday"),
    "date_in_future": letter(Date="Mon, 30 Nov 2026 10:00:00 +0100"),
    "date_long_past": letter(Date="Mon, 02 Nov 2020 10:00:00 +0100"),
    "no_message_id": letter(Message_ID=None),
    "bad_message_id": letter(Message_ID="1234"),
    "foreign_message_id": letter(Message_ID="<1@example.net>"),
    "no_from": letter(From=None),
    "from_without_address": letter(From="Your bank"),
    "from_other_address": letter(From='"service@bank.example" <x@example.org>'),
    "from_odd_domain": letter(From="anna@localhost"),
    "from_numbered": letter(From="anna12345@example.org"),
    "from_random": letter(From="xkqwzrtp@example.org"),
    "reply_elsewhere": letter(Reply_To="deal@gmail.com"),
    "no_to": letter(To=None),
    "to_hidden": letter(To="undisclosed-recipients:;"),
    "to_sender": letter(To="anna@example.org"),
    "similar_recipients": letter(To=", ".join(f"bert{each}@example.net" for each in "abcdefg")),
    "no_subject": letter(Subject=None),
    "subject_shouts": letter(Subject="MINUTES OF OUR MEETING"),
    "subject_exclaims": letter(Subject="Minutes!"),
    "subject_tagged": letter(Subject="Minutes      k3jx9"),
    "subject_spaced": letter(Subject="M i n u t e s of it"),
    "subject_needlessly_encoded": letter(Subject="=?utf-8?B?TWludXRlcw==?="),
    "forged_reply": letter(Subject="Re: Minutes"),
    "undeclared_8bit": letter(Subject="Gr\xfc\xdfe aus", charset="latin-1"),
    "doubled_field": b"Subject: Minutes\r\n" + letter(),
    "free_mail_elsewhere": letter(From="anna@yahoo.com", Received="from a.example.com by mx.example.net"),
    "many_recipients": letter(To=", ".join(f"{each}@example.net" for each in "agbfced")),
    "date_without_zone": letter(Date="Mon, 02 Nov 2026 10:00:00"),
    "links_home": letter("https://www.example.org/\n", Received="from mail.example.org by mx.example.net"),
    "mail_program": letter(User_Agent="Mutt/1.5"),
    "marked_urgent": letter(X_Priority="1 (Highest)"),
    "forged_outlook": letter(X_Mailer="Microsoft Outlook Express 6.00"),
    "bulk_without_exit": letter(Precedence="bulk"),
    "helo_numeric": letter(),
    "helo_unqualified": letter(),
    "answer_in_thread": letter(In_Reply_To="<1@x.example>", References="<1@x.example>"),
    "list_mail": letter(List_Id="<a.example>", List_Post="<mailto:a@example.org>"),
    "bulk_program": letter(X_Mailer="StormPost 1.0"),
    "says_advertisement": letter(Subject="ADV: Minutes"),
    "html_alone": page(""),
    "program_attached": attached("minutes.exe"),
    "disguised_attachment": attached("minutes.pdf.exe"),
    "macros_attached": attached("minutes.docm"),
    "page_attached": attached("minutes.html", "text/html"),
    "misnamed_attachment": attached("minutes.exe", "image/png"),
    "multipart_without_end": attached("a.txt").replace(b"--b--", b""),
    "multipart_without_parts": letter("nothing\n", MIME_Version="1.0", Content_Type="multipart/mixed; boundary=b"),
    "needless_base64": letter(
        "SGVsbG8gQmVydCwgaGVyZSBhcmUgdGhlIG1pbnV0ZXMu\n", MIME_Version="1.0", Content_Transfer_Encoding="base64"
    ),
    "unknown_charset": letter(MIME_Version="1.0", Content_Type="text/plain; charset=nonsense"),
    "false_charset": letter(LONG, MIME_Version="1.0", Content_Type="text/plain; charset=big5"),
    "no_mime_version": letter(Content_Type="text/plain"),
    "picture_for_text": page('<img src="cid:1">'),
    "link_alone": letter("https://example.com/x\n"),
    "empty": letter("\n"),
    "much_markup": page("<b></b>" * 400),
    "comment_in_word": page("<p>vi<!-- x -->tamin</p>"),
    "hidden_entities": page("&#72;&#101;&#108;&#108;" * 10),
    "invisible_text": page('<font color="#ffffff">words</font>'),
    "capitals": letter("ALL OF THIS IS WRITTEN IN CAPITALS, ONE LINE AFTER THE OTHER\n" * 3),
    "exclaims": letter("Hello! Here! Are! The! Minutes! Now!\n"),
    "spaced_words": letter("Here is v i t a m i n s for you.\n"),
    "invisible_characters": letter("vi\u200bta\u200bmi\u200bns\n"),
    "mixed_scripts": letter("p\u0430ypal says hello\n"),
    "random_words": letter("Hello\n\nxkqwzrtpb bcdfghjkl qwrtpsdfg\n"),
    "much_money": letter("From $10,000 over $20,000 to $30,000.\n"),
    "foreign_script": letter("Здравствуйте, это протокол нашего собрания\n"),
    "signed": letter("a\n-----BEGIN PGP SIGNATURE-----\n"),
    "quotes": letter("You wrote\n> a\n> b\n> c\n"),
    "holds_patch": letter("\n--- a/x\n+++ b/x\n@@ -1 +1 @@\n-a\n+b\n"),
    "html_form": page("<form action=x></form>"),
    "html_password_form": page('<form><input name=a type="password"></form>'),
    "html_script": page("<script>x()</script>"),
    "html_frame": page("<iframe src=x></iframe>"),
    "html_tiny_font": page('<p style="font-size:1px">x</p>'),
    "html_huge_font": page('<font size="7">x</font>'),
    "html_hidden": page('<p style="display:none">x</p>'),
    "html_red": page('<font color="red">x</font>'),
    "html_tracker": page('<img src="https://example.com/t" width="1" height="1">'),
    "html_title_missing": page("<title></title>"),
    "link_ip": letter("See http://192.0.2.1/a for it.\n"),
    "link_number": letter("See http://3221225985/a for it.\n"),
    "link_user_info": letter("See http://bank.example@evil.example/a for it.\n"),
    "link_port": letter("See http://example.com:8123/a for it.\n"),
    "link_shortened": letter("See https://bit.ly/abc for it.\n"),
    "link_cheap_domain": letter("See https://minutes.top/ for it.\n"),
    "link_hides_host": page('<a href="https://evil.example/">www.bank.com</a>'),
    "link_elsewhere": letter("See https://example.com/x for the minutes of our meeting.\n"),
    "link_coded": letter("See http://example.com/%61%62%63%64 for it.\n"),
    "link_nested": letter("See http://example.com/go?http://other.example/ for it.\n"),
    "link_punycode": letter("See https://xn--bcher-kva.example/ for it.\n"),
    "link_many_labels": letter("See https://a.b.c.d.e.example.com/ for it.\n"),
    "link_random_host": letter("See https://xkqwzrtpb.example/ for it.\n"),
    "link_number_in_mailto": page('<a href="mailto:x@example.com?subject=remove">x</a>'),
    "link_exit_script": page('<a href="https://example.com/optout.cgi">x</a>'),
    "subject_money": letter(Subject="$500 for you"),
    "subject_free": letter(Subject="Heute gratis"),
    "subject_drugs": letter(Subject="V1agra for less"),
    "subject_loan": letter(Subject="Kredit ohne Bank"),
    "subject_sex": letter(Subject="Hot teens"),
    "subject_win": letter(Subject="Sie haben gewonnen"),
    "subject_account": letter(Subject="Ihr Konto wurde gesperrt"),
    "subject_weight": letter(Subject="Lose weight"),
    "subject_your": letter(Subject="Your home and you"),
    "subject_guarantee": letter(Subject="Act now"),
    "subject_work_home": letter(Subject="Work from home"),
    "remove_me": letter("To be removed, answer.\n"),
    "you_asked_for_it": letter("You are receiving this email because you asked.\n"),
    "law_quoted": letter("This message cannot be considered spam.\n"),
    "act_now": letter("Order now, please.\n"),
    "click_here": letter("Klicken Sie hier.\n"),
    "no_risk": letter("Money-back guarantee.\n"),
    "for_nothing": letter("It is absolutely free.\n"),
    "get_rich": letter("Make money with us.\n"),
    "big_sum": letter("I have 20 million dollars.\n"),
    "inheritance": letter("You are the next of kin.\n"),
    "lottery": letter("You have won the lottery.\n"),
    "drugs": letter("Viagra without prescription.\n"),
    "body_promises": letter("Lose weight with us.\n"),
    "loan": letter("Refinance your mortgage.\n"),
    "sex": letter("Live girls on screen.\n"),
    "bulk_mail_sold": letter("We sell bulk email.\n"),
    "account_trouble": letter("Bestätigen Sie Ihre Kontodaten.\n"),
    "extortion": letter("I recorded you with your webcam. Pay in bitcoin.\n"),
    "stock_tip": letter("A strong buy.\n"),
    "dear_somebody": letter("Dear friend,\n"),
    "paid_by": letter("Pay by Western Union.\n"),
    "reports_for_sale": letter("Order report #1 and report #2. Add your name.\n"),
    "only_today": letter("Only $9 each.\n"),
    "diploma": letter("University diplomas for all.\n"),
    "cable_and_spying": letter("A cable descrambler.\n"),
    "long_distance": letter("Cheap long-distance calls.\n"),
    "our_company": letter("Dear Bert, we are a maker of bolts.\n"),
    "null_sender": letter(),
}
KNOWN: dict[str, Circumstances] = {
    "address_given": Circumstances(details=("example-news",)),
    "date_in_future": Circumstances(received_at=NOW),
    "date_long_past": Circumstances(received_at=NOW),
    "helo_numeric": Circumstances(helo="host-192-0-2-1.example"),
    "helo_unqualified": Circumstances(helo="friend"),
    "dmarc_fail": Circumstances(dmarc="fail"),
    "dmarc_pass": Circumstances(dmarc="pass"),
    "spf_fail": Circumstances(spf="fail"),
    "spf_softfail": Circumstances(spf="softfail"),
    "dkim_fail": Circumstances(dkim="fail"),
    "dkim_pass": Circumstances(dkim="pass"),
    "unauthenticated": Circumstances(spf="none", dkim="none"),
    "no_pointer": Circumstances(has_pointer=False),
    "null_sender": Circumstances(reverse_path=""),
    "sender_answered": Circumstances(dmarc="pass", standing=HELD),
    "sender_kept": Circumstances(dkim="pass", standing=Standing(kept=3, junked=1)),
    "sender_junked": Circumstances(standing=Standing(junked=2)),
}


@pytest.mark.parametrize("name", [rule.name for rule in rule_book().rules])
def test_rule_holds_for_its_message(name: str) -> None:
    """Each rule of the book has a message for which it holds."""
    octets, known = MESSAGES.get(name, letter()), KNOWN.get(name, Circumstances())
    assert name in MESSAGES or name in KNOWN
    assert name in {rule.name for rule in rule_book().ask(Sight(octets, known))}


def test_innocent_letter_breaks_no_rule() -> None:
    """A plain letter between two people gets no points."""
    assert rule_book().ask(Sight(letter(), Circumstances(received_at=NOW, helo="mx.example.org"))) == []


def test_rules_are_explained() -> None:
    """Each rule has a name that can stand in a field, points, and a reason in both languages."""
    for rule in rule_book().rules:
        assert rule.name.replace("_", "").isalnum()
        assert rule.name.isascii()
        assert rule.points
        assert rule.reason("en").isascii()
        assert rule.reason("de") != rule.reason("en")


def test_forged_sender_has_no_standing() -> None:
    """That somebody wrote to an address helps only mail whose sender is proven."""
    for known in (Circumstances(standing=HELD), Circumstances(dmarc="fail", spf="pass", standing=HELD)):
        names = {rule.name for rule in rule_book().ask(Sight(letter(), known))}
        assert "sender_answered" not in names


@pytest.mark.parametrize(
    ("sender", "known", "holds"),
    [
        ("a@ryanairmail.com", Circumstances(details=("ryanair",)), True),
        ("a@geocaching.com", Circumstances(details=("geocache",), spf="pass"), True),
        ("a@mediaunspun.imakenews.net", Circumstances(details=("unspun",), spf="none"), True),
        ("a@cnet.example", Circumstances(details=("cnet-newsletters", "cnet")), True),
        ("a@ryanairmail.com", Circumstances(details=("ryanair",), dmarc="fail"), False),
        ("a@ryanairmail.com", Circumstances(details=("ryanair",), spf="softfail"), False),
        ("a@ryanairmail.com", Circumstances(details=("ryanair", "friends")), False),
        ("a@pills.example", Circumstances(details=("ryanair",)), False),
        ("a@goodnews.example", Circumstances(details=("news",)), False),
        ("a@fc.example", Circumstances(details=("fc",)), False),
        ("a@company.com", Circumstances(details=("comp", "com")), False),
        ("a@ryanairmail.com", Circumstances(), False),
    ],
)
def test_an_address_of_its_own(sender: str, known: Circumstances, holds: bool) -> None:
    """Whom an address was given to may write there; others, forgers and what anybody may send gain nothing."""
    names = {rule.name for rule in rule_book().ask(Sight(letter(From=sender), known))}
    assert ("address_given" in names) is holds


def test_pages_that_claim_to_be_text_are_pages() -> None:
    """HTML without its type is read as HTML; a letter that quotes a tag stays what it is."""
    markup = "<html><body><p>Hello <b>Bert</b></p><table><tr><td><font color=red>Buy</font></td></tr></table><br>\n"
    assert Sight(letter(markup)).text.split() == ["Hello", "Bert", "Buy"]
    quoted = "Write <br> between them, and <p> above.\n"
    assert Sight(letter(quoted)).text.strip() == quoted.strip()


def test_two_rules_of_one_name_are_refused() -> None:
    """Names tell rules apart."""
    rule = Pattern("twice", 1.0, "a", "b", "text", "x")
    with pytest.raises(ValueError, match="one name"):
        RuleBook([rule, rule])


def test_body_is_the_innocent_one() -> None:
    """The text of the letters is what the rules see."""
    assert Sight(letter()).text.strip() == BODY.strip()


@pytest.mark.parametrize("about", ["html", "links", "attachments", "connection"])
def test_questions_without_an_object_are_not_asked(about: About) -> None:
    """What is about links, markup, attachments or the connection is not asked where there is none."""
    book = RuleBook([Question("never", 1.0, "never", "nie", lambda s: pytest.fail("it was asked"), about)])
    assert book.ask(Sight(letter())) == []


def test_every_question_about_something_is_asked_where_it_is() -> None:
    """With it, it is asked."""
    full = attached("a.txt").replace(b"text/plain", b"text/html").replace(b"Hello", b"<a href=http://a.example/>")
    for about in get_args(About):
        book = RuleBook([Question("always", 1.0, "always", "immer", lambda s: True, about)])
        assert len(book.ask(Sight(full, Circumstances(helo="mx.example.org")))) == 1, about


def test_links_without_scheme() -> None:
    """They begin a word; a part of an address or of another link is none."""
    sight = Sight(letter("see www.a.example, (www.b.example) x@www.c.example http://d.example/www.e.example\n"))
    assert sight.hosts == {"www.a.example", "www.b.example", "d.example"}


def test_uncommon_characters_and_vowels() -> None:
    """What several rules look at is found out once, beyond ASCII too."""
    sight = Sight(letter("ÄPFEL Bäume Ο\n", Subject="Grüße"))
    assert set(sight.uncommon) == {"Ä", "ä", "Ο", "ü", "ß"}
    assert sight.vowels == (2, 1)
