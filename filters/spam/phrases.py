"""Rules about wording, in English and German: what nobody writes but who wants something."""

from filters.spam.rules import Pattern, Rule


def _text(name: str, points: float, en: str, de: str, expression: str) -> Pattern:
    return Pattern(name, points, en, de, "text", expression)


def _subject(name: str, points: float, en: str, de: str, expression: str) -> Pattern:
    return Pattern(name, points, en, de, "subject", expression)


RULES: tuple[Rule, ...] = (
    _subject(
        "subject_money",
        0.9,
        "its subject speaks of money",
        "ihr Betreff spricht von Geld",
        r"[$€£] ?\d|\d ?[$€£]|\b(?:cash|million|income|profit|earn|euros?|geld|verdien\w+)\b",
    ),
    _subject(
        "subject_free",
        1.3,
        "its subject offers something for nothing",
        "ihr Betreff verspricht etwas umsonst",
        r"\bfree\b[^:]*!|^free\b|\b(?:kostenlos|gratis|umsonst)\b|\bno cost\b",
    ),
    _subject(
        "subject_drugs",
        2.5,
        "its subject speaks of drugs",
        "ihr Betreff spricht von Medikamenten",
        r"v[i1!|í]+[a@á]+gr[a@á]|\bcial[i1]s\b|\bpharmacy\b|\bxanax\b|\bvalium\b|\bherbal\b|\bmeds?\b|\bpotenz",
    ),
    _subject(
        "subject_loan",
        1.4,
        "its subject offers a loan or mortgage",
        "ihr Betreff bietet einen Kredit an",
        r"\b(?:mortgage|refinanc\w*|debts?|loans?|interest rates?|low(?:est)? rates?|kredit|schufa|credit cards?)\b",
    ),
    _subject(
        "subject_sex",
        2.1,
        "its subject speaks of sex",
        "ihr Betreff spricht von Sex",
        r"\b(?:sex(?:y|ual)?|porn\w*|xxx|nude|naked|horny|teens?|sluts?|erotik\w*|webcam girls?|viagra|adult site|penis)\b",
    ),
    _subject(
        "subject_win",
        1.4,
        "its subject speaks of a prize",
        "ihr Betreff spricht von einem Gewinn",
        r"\b(?:winner|winning|you(?:'ve| have)? won|lottery|lotto|jackpot|prize|casino|gewonnen|gewinn(?:spiel|"
        r"er)?|congratulations)\b",
    ),
    _subject(
        "subject_account",
        1.2,
        "its subject speaks of trouble with an account",
        "ihr Betreff spricht von Problemen mit einem Konto",
        r"\b(?:account|konto|paypal|apple.?id|amazon|sparkasse|volksbank|postbank)\b.*\b(?:suspend\w*|limit\w*|"
        r"verif\w+|lock\w*|gesperrt|"
        r"eingeschränkt|bestätig\w+|block\w*|verifizier\w+)",
    ),
    _subject(
        "subject_weight",
        1.2,
        "its subject promises to lose weight or age",
        "ihr Betreff verspricht Abnehmen oder Jugend",
        r"\b(?:lose|weight|diet|pounds|wrinkles?|aging|hgh|growth hormone|abnehmen|diät|fett|younger)\b",
    ),
    _subject(
        "subject_your",
        0.5,
        "its subject speaks of what is yours",
        "ihr Betreff spricht von dem, was Ihnen gehört",
        r"^(?:your|ihre?)\b|\byour (?:own|home|business|website|family|credit|bills?)\b",
    ),
    _subject(
        "subject_guarantee",
        1.3,
        "its subject guarantees or urges",
        "ihr Betreff garantiert oder drängt",
        r"\b(?:guarante\w+|limited time|act now|hurry|last chance|don'?t miss|risk.?free|garantiert|nur heute|"
        r"letzte chance|urgent|dringend|confidential|assistance|save \d|save up|\d+% off|\d+ ?%)",
    ),
    _subject(
        "subject_work_home",
        1.5,
        "its subject offers work at home",
        "ihr Betreff bietet Heimarbeit an",
        r"\b(?:work (?:at|from) home|home.?based|home business|be your own boss|heimarbeit|nebenverdienst|opportunit\w+)",
    ),
    _text(
        "remove_me",
        1.4,
        "it tells how to be taken off a list",
        "sie erklärt, wie man sich austrägt",
        r"\bto be removed\b|\bremove(?:d)? (?:me|yourself|from (?:our|this|future|the))|\bword \W?remove\b|"
        r"\bremov\w+ instructions\b|"
        r"\bin the subject (?:line|field)\b|\bopt.?out\b|\bno longer wish to receive\b|\btake me off\b",
    ),
    _text(
        "you_asked_for_it",
        1.0,
        "it claims that you asked for it",
        "sie behauptet, Sie hätten darum gebeten",
        r"\byou (?:are receiving|have received|received|were sent) this (?:e?-?mail|message|newsletter|offer|"
        r"special)?[^.]{0,80}(?:because|as a)|"
        r"\bthis (?:e?-?mail|message) (?:is|was) (?:not|never) (?:unsolicited|spam)|\bopt(?:ed)?.?in\b|"
        r"\bsie erhalten diese (?:e?-?mail|nachricht),? (?:weil|da)\b|"
        r"\bnot unsolicited\b",
    ),
    _text(
        "law_quoted",
        2.0,
        "it quotes a law that allows it",
        "sie beruft sich auf ein Gesetz, das sie erlaube",
        r"\b(?:s\.? ?1618|h\.? ?r\.? ?(?:3113|1910)|section 301|bill \w*1618)\b|\bcannot be considered spam\b",
    ),
    _text(
        "act_now",
        0.7,
        "it urges",
        "sie drängt",
        r"\bact now\b|\border (?:now|today)\b|\bcall now\b|\b(?:limited|one).time offer\b|\bwhile supplies last\b|"
        r"\bdon'?t (?:delay|wait)\b|"
        r"\boffer expires\b|\bjetzt (?:bestellen|zugreifen)\b|\bnur noch heute\b|\bhandeln sie (?:jetzt|schnell)\b",
    ),
    _text(
        "click_here",
        0.9,
        "it says where to click",
        "sie sagt, wo man klicken soll",
        r"\bclick (?:here|below|on the link|the link)\b|\bklicken sie (?:hier|auf)\b|\bhier klicken\b|"
        r"\bvisit our (?:web)?site\b",
    ),
    _text(
        "no_risk",
        1.1,
        "it promises that there is no risk",
        "sie verspricht, es gebe kein Risiko",
        r"\brisk.?free\b|\bno risk\b|\bno obligation\b|\bmoney.?back\b|\b(?:100%|fully|satisfaction) guarante\w+|"
        r"\bguaranteed\b|\bohne risiko\b|\bgeld.zurück",
    ),
    _text(
        "for_nothing",
        0.1,
        "it offers something for nothing",
        "sie bietet etwas umsonst an",
        r"\babsolutely free\b|\bfor free\b|\bfree (?:trial|sample|gift|access|info\w*|quote|report|consult\w*|"
        r"membership|shipping|tour|preview|cell|bonus)\b|"
        r"\bat no (?:cost|charge)\b|\bvöllig kostenlos\b|\bgratis\b|\btoll.?free\b",
    ),
    _text(
        "get_rich",
        1.8,
        "it promises quick money",
        "sie verspricht schnelles Geld",
        r"\bmake (?:money|\$|thousands)\b|\bextra (?:income|cash|money)\b|\bfinancial(?:ly)? (?:freedom|"
        r"independen\w+)\b|\bearn (?:up to |over |as much as )?\$|"
        r"\bget rich\b|\bpotential earnings\b|\bcash bonus\b|\b(?:\d+|thousands of) dollars (?:a|per) (?:day|week|"
        r"month)\b|\bschnell(?:es)? geld\b|\bpassives einkommen\b|"
        r"\bhome.based business\b|\bwork (?:at|from) home\b|\bmulti.?level\b|\bmlm\b|\bpyramid\b",
    ),
    _text(
        "big_sum",
        1.1,
        "it speaks of millions",
        "sie spricht von Millionen",
        r"\bmillion (?:united states |us |u\.s\. )?(?:dollars|euro|usd|pounds)\b|\b(?:usd|us\$|\$|€|"
        r"eur) ?\d+(?:[.,]\d+)* ?(?:m|million|millionen)\b|\bmillionen (?:euro|dollar|us)",
    ),
    _text(
        "inheritance",
        2.4,
        "it tells of a fortune abroad",
        "sie erzählt von einem Vermögen im Ausland",
        r"\bnext of kin\b|\bforeign (?:partner|account|beneficiary)\b|\b(?:deceased|late) (?:father|husband|client|"
        r"president|head of state)\b|\btransfer of (?:the |this )?(?:fund|money|sum)|"
        r"\bconfidential(?:ity)? (?:business|transaction|proposal)|\bbusiness proposal\b|\bsecurity company\b|"
        r"\bsierra leone\b|\bnigeria\w*\b.*\b(?:petroleum|bank|fund)|\berbschaft\b|\bnachlass\b",
    ),
    _text(
        "lottery",
        1.9,
        "it tells of a prize",
        "sie erzählt von einem Gewinn",
        r"\byou(?:'ve| have)? (?:been selected|won)\b|\b(?:lottery|sweepstake)\w*\b|\bclaim your (?:prize|winnings|"
        r"free)\b|\bsie haben gewonnen\b|\bhauptgewinn\b|\bcasino\b",
    ),
    _text(
        "drugs",
        1.7,
        "it offers drugs",
        "sie bietet Medikamente an",
        r"\bviagra\b|\bcialis\b|\bphentermine\b|\bxanax\b|\bvalium\b|\bonline pharmacy\b|\bno prescription\b|"
        r"\bhuman growth\b|\bherbal\b|\bpotenzmittel\b|\brezeptfrei\b|\bwithout (?:a )?prescription\b",
    ),
    _text(
        "body_promises",
        1.5,
        "it promises a better body",
        "sie verspricht einen besseren Körper",
        r"\blose (?:weight|up to|\d+ (?:pounds|lbs))\b|\bweight loss\b|\bburn fat\b|\bpenis\b|\benlarge\w*\b|"
        r"\berection\b|\bsexual (?:potency|performance|energy)\b|\bhair loss\b|\banti.?aging\b|\bwrinkle\b|"
        r"\bschnell abnehmen\b",
    ),
    _text(
        "loan",
        1.1,
        "it offers a loan",
        "sie bietet einen Kredit an",
        r"\bmortgage\b|\brefinanc\w+|\binterest rates?\b|\b(?:bad|poor|no|good) credit\b|"
        r"\bconsolidat\w+ (?:your )?(?:debt|bill)|\bloans?\b.{0,40}\bapprov\w+|\bdebt (?:free|relief|consolidation|"
        r"elimination)\b|"
        r"\bout of debt\b|\bsofortkredit\b|\bohne schufa\b|\blife insurance\b|\bterm life\b",
    ),
    _text(
        "sex",
        1.4,
        "it offers sex",
        "sie bietet Sex an",
        r"\b(?:porn\w*|xxx|hardcore|live (?:girls|sex)|sex (?:sites?|pics|videos?)|nude|naked|horny|sluts?|cum|"
        r"fuck\w*|erotik\w*|sexkontakt\w*|over 18|18\+|must be 18|at least 18|21 years|[cfp]\*(?:ck|rn)\w*)\b",
    ),
    _text(
        "bulk_mail_sold",
        2.4,
        "it offers addresses or mass mailing",
        "sie bietet Adressen oder Massenversand an",
        r"\bbulk (?:e?-?mail\w*|friendly|mail\w*)\b|\b(?:million|fresh|targeted|clean) (?:fresh |"
        r"targeted )?e?-?mail ?addresses\b|\be?-?mail marketing\b|\bmass (?:e?-?mail\w*|mailing)\b|"
        r"\be?-?mail (?:lists?|extractor)\b.{0,60}\b(?:sale|cd|million)|"
        r"\bsearch engines?\b.{0,60}\b(?:submit|submission|rank|position|traffic)|\bwebsite traffic\b",
    ),
    _text(
        "account_trouble",
        1.5,
        "it wants an account to be confirmed",
        "sie verlangt die Bestätigung eines Kontos",
        r"\b(?:verify|confirm|update|validate) your (?:account|identity|password|billing|information|e?-?mail)\b|"
        r"\baccount (?:has been|was|will be) (?:suspended|limited|locked|disabled|deactivated)\b|"
        r"\bunusual (?:sign.?in|activity)\b|"
        r"\bkonto (?:wurde|wird|ist)[^.]{0,40}(?:gesperrt|eingeschränkt|deaktiviert|suspendiert)\b|"
        r"\bbestätigen sie ihre (?:daten|identität|kontodaten)\b|\bmailbox (?:is|has|quota)[^.]{0,40}(?:full|"
        r"exceeded)",
    ),
    _text(
        "extortion",
        2.5,
        "it threatens and wants money",
        "sie droht und verlangt Geld",
        r"\b(?:bitcoin|btc|wallet)\b.{0,400}\b(?:webcam|video|malware|password|kamera|recorded)\b|\b(?:webcam|"
        r"malware|recorded|kamera|trojan\w*)\b.{0,400}\b(?:bitcoin|btc|wallet)\b",
    ),
    _text(
        "stock_tip",
        1.4,
        "it praises a stock",
        "sie preist eine Aktie an",
        r"\bstrong buy\b|\bhot stock\b|\bstock (?:alert|pick|tip)\b|\bundervalued\b|\botc(?:bb)?:|"
        r"\bforward.looking statements\b|\bsymbol:|\bkursziel\b|\baktientipp\b|\bforex\b.{0,80}\bprofit",
    ),
    _text(
        "dear_somebody",
        0.9,
        "it does not know whom it addresses",
        "sie weiß nicht, wen sie anspricht",
        r"(?m)^\W{0,5}(?:dear (?:friend|sir|madam|sirs|homeowner|home owner|customer|user|member|winner|consumer|"
        r"beneficiary|ceo|e?-?mail user|valued|business owner|webmaster|reader)|"
        r"attention\b|greetings\b|hello friend|sehr geehrter? (?:kunde|kundin|nutzer\w*|empfänger)|lieber kunde|"
        r"liebe[rs]? (?:mitglied|freund))",
    ),
    _text(
        "paid_by",
        0.4,
        "it names ways to pay",
        "sie nennt Zahlungswege",
        r"\b(?:visa|mastercard|american express|amex)\b|\bmoney order\b|\bwestern union\b|\bgift cards?\b|"
        r"\bshipping (?:and|&) handling\b|\bs&h\b|\bcashier'?s check\b",
    ),
    _text(
        "reports_for_sale",
        1.5,
        "it is a chain letter",
        "sie ist ein Kettenbrief",
        r"\breport ?#? ?[1-5]\b.{0,200}\breport|\bchain letter\b|\bthis (?:really|program) works\b|"
        r"\bparticipat\w+ in this program\b|\bmove the name|\bkettenbrief\b|\badd your name\b",
    ),
    _text(
        "only_today",
        0.2,
        "it has a price to praise",
        "sie preist einen Preis an",
        r"\b(?:only|just|nur|for as low as|as low as|starting at) (?:[$€£]|usd|eur) ?\d|\bsave (?:up to |"
        r"over )?(?:[$€£] ?\d|\d+ ?%)|\b\d+ ?% (?:off|discount|rabatt|günstiger)\b|\blow(?:est)? prices?\b|"
        r"\bspecial (?:offer|price|promotion)\b|\bbest price",
    ),
    _text(
        "diploma",
        2.1,
        "it sells degrees",
        "sie verkauft Titel",
        r"\buniversity (?:diplomas?|degrees?)\b|\bno required (?:tests|classes)\b|\bdiplomas? (?:from|based)|"
        r"\bdoktortitel\b|\bbachelors?,? masters?\b",
    ),
    _text(
        "cable_and_spying",
        1.5,
        "it sells ways to spy or cheat",
        "sie verkauft Mittel zum Ausspähen oder Betrügen",
        r"\bcable (?:descrambler|box|filter)|\bdescrambler|\bfind out (?:anything|everything|the truth) about\b|"
        r"\bspy (?:on|software|cam)|\bbackground check|\bcopy dvds?\b|\bsatellite tv\b|\bink ?jet|\btoner\b|"
        r"\bprinter cartridges?",
    ),
    _text(
        "long_distance",
        1.3,
        "it sells telephone or web services",
        "sie verkauft Telefon- oder Webdienste",
        r"\blong.distance\b|\bcents (?:a|per) minute\b|\bweb hosting\b|\bdomain names? (?:for|registration|from)\b|"
        r"\bmerchant account|\bcredit cards? (?:processing|accepted)|\baccept credit cards|\bsex.?toys?|"
        r"\bvacation\b.{0,60}\bfree\b",
    ),
    _text(
        "our_company",
        0.6,
        "it introduces a company",
        "sie stellt eine Firma vor",
        r"\bdear\b.{0,40}\bwe are (?:a|the|one of)\b|\bleading (?:manufacturer|supplier|provider|exporter)\b|"
        r"\bour products?\b.{0,80}\b(?:price|quality)\b|\bwir sind ein führender\b",
    ),
)
