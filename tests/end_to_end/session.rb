# A session of Ruby's net-imap, whose parser is strict: what it does not understand, it raises. Prints what it read, as JSON.
# Arguments: port, file of the authority, login, password, a word to search for.
require "json"
require "net/imap"

port, authority, login, password, word = ARGV
imap = Net::IMAP.new("localhost", port: port.to_i, ssl: { ca_file: authority })
imap.authenticate("PLAIN", login, password)
imap.create(Net::IMAP.encode_utf7("Entwürfe/Größe"))
imap.select("INBOX")
fetched = imap.uid_fetch(1..-1, %w[UID FLAGS INTERNALDATE RFC822.SIZE ENVELOPE BODYSTRUCTURE BODY.PEEK[HEADER] BODY.PEEK[TEXT]])
first = fetched[0].attr
imap.uid_store(1..3, "+FLAGS", [:Seen, "$Important"])
thread = imap.thread("REFERENCES", "ALL", "UTF-8")
copied = imap.uid_copy([1, 2], Net::IMAP.encode_utf7("Entwürfe/Größe"))
moved = imap.uid_move([4], "Archive")
imap.setacl("Archive", login, "lrswipkxtea")
told = {
  count: fetched.length,
  subjects: fetched.map { |one| one.attr["ENVELOPE"].subject },
  from: first["ENVELOPE"].from[0].mailbox,
  parts: fetched.map { |one| one.attr["BODYSTRUCTURE"].multipart? ? one.attr["BODYSTRUCTURE"].parts.length : 1 },
  exact: fetched.all? { |one| one.attr["RFC822.SIZE"] == one.attr["BODY[HEADER]"].bytesize + one.attr["BODY[TEXT]"].bytesize },
  flags: imap.uid_fetch(1, "FLAGS")[0].attr["FLAGS"].map(&:to_s),
  found: imap.uid_search(["BODY", word], "UTF-8"),
  sorted: imap.uid_sort(%w[REVERSE DATE], ["ALL"], "UTF-8").first,
  threads: thread.length,
  copied: copied.data.code.name,
  moved: moved.data.code&.name,
  status: imap.status("Archive", %w[MESSAGES UIDNEXT UIDVALIDITY UNSEEN RECENT]),
  mailboxes: imap.list("", "*").map { |one| Net::IMAP.decode_utf7(one.name) },
  quota: imap.getquotaroot("INBOX").map(&:class).map(&:to_s),
  acl: imap.getacl("Archive").map { |one| [one.user, one.rights] },
}
imap.logout
puts JSON.generate(told)
