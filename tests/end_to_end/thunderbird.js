// What a user does in Thunderbird, as functions: each waits by the program's own listeners until it is done.
// tests/end_to_end/test_thunderbird.py puts this before its calls; it runs in the program's context.

const { MailServices } = ChromeUtils.importESModule("resource:///modules/MailServices.sys.mjs");
const { clearTimeout, setTimeout } = ChromeUtils.importESModule("resource://gre/modules/Timer.sys.mjs");
const mainWindow = Services.wm.getMostRecentWindow("mail:3pane");

// The account as the account hub makes it: settings tried with a login, then stored.
async function setUpAccount({ login, password, imaps, submission, authority }) {
  const certificates = Cc["@mozilla.org/security/x509certdb;1"].getService(Ci.nsIX509CertDB);
  certificates.addCertFromBase64(authority, "C,,");
  const { AccountConfig } = ChromeUtils.importESModule("resource:///modules/accountcreation/AccountConfig.sys.mjs");
  const { ConfigVerifier } = ChromeUtils.importESModule("resource:///modules/accountcreation/ConfigVerifier.sys.mjs");
  const { CreateInBackend } = ChromeUtils.importESModule("resource:///modules/accountcreation/CreateInBackend.sys.mjs");
  const config = new AccountConfig();
  const common = { hostname: "localhost", username: login, password, auth: Ci.nsMsgAuthMethod.passwordCleartext };
  Object.assign(config.incoming, common, { type: "imap", port: imaps, socketType: Ci.nsMsgSocketType.SSL });
  Object.assign(config.outgoing, common, { type: "smtp", port: submission, socketType: Ci.nsMsgSocketType.alwaysSTARTTLS });
  config.identity = { realname: "A Person", emailAddress: login };
  const verifier = new ConfigVerifier(mainWindow.msgWindow, new AbortController().signal);
  await verifier.verifyConfig(config, false);
  const account = await CreateInBackend.createAccountInBackend(config);
  return account.incomingServer.type;
}

function server() {
  return MailServices.accounts.allServers.find(found => found.type == "imap");
}

function folder(name) {
  const found = server().rootFolder.descendants.find(one => one.name == name);
  if (!found) {
    throw new Error(`no folder ${name}: ${server().rootFolder.descendants.map(one => one.name)}`);
  }
  return found;
}

// The window's part with the folders, the list of messages and the message.
function messagePane() {
  return mainWindow.document.getElementById("tabmail").currentAbout3Pane;
}

// Gives the promise of a url's end and the listener that keeps it.
function ending() {
  const { promise, resolve, reject } = Promise.withResolvers();
  const listener = {
    QueryInterface: ChromeUtils.generateQI(["nsIUrlListener", "nsIMsgCopyServiceListener"]),
    OnStartRunningUrl() {},
    OnStopRunningUrl(url, status) {
      Components.isSuccessCode(status) ? resolve() : reject(new Error(`url ended with ${status}`));
    },
    onStartCopy() {},
    onProgress() {},
    setMessageKey() {},
    getMessageId() {},
    onStopCopy(status) {
      Components.isSuccessCode(status) ? resolve() : reject(new Error(`copy ended with ${status}`));
    },
  };
  return { promise, listener };
}

// Waits until `holds`, which is asked after every event of the folders and of the list of messages, as long as there are any.
async function until(holds) {
  const { promise, resolve, reject } = Promise.withResolvers();
  const rows = messagePane().threadTree;
  const look = () => holds() && resolve();
  let limit = null;
  const ask = () => {
    clearTimeout(limit);
    limit = setTimeout(() => reject(new Error(`not so, and nothing for 50 s: ${holds}; ${state()}`)), 50_000);
    Services.tm.dispatchToMainThread(look); // once all other listeners have had the event
  };
  const methods = ["Added", "Removed", "PropertyChanged", "IntPropertyChanged", "BoolPropertyChanged"];
  methods.push("UnicharPropertyChanged", "PropertyFlagChanged", "Event");
  const listener = { QueryInterface: ChromeUtils.generateQI(["nsIFolderListener"]), onMessageAdded: ask, onMessageRemoved: ask };
  methods.forEach(name => (listener[`onFolder${name}`] = ask));
  MailServices.mailSession.AddFolderListener(listener, Ci.nsIFolderListener.all);
  rows.addEventListener("rowcountchange", ask);
  ask();
  await promise.finally(() => {
    clearTimeout(limit);
    MailServices.mailSession.RemoveFolderListener(listener);
    rows.removeEventListener("rowcountchange", ask);
  });
}

// What the program shows and knows, for the message of an error.
function state() {
  const pane = messagePane();
  const folders = server().rootFolder.descendants.map(
    one => `${one.name}: ${[...one.messages].length} messages, ${one.getTotalMessages(false)} told`
  );
  return `shown: ${pane.gFolder?.name}, ${pane.gDBView?.rowCount} rows; ${folders.join("; ")}`;
}

// The folders that the server has, once there are `count` of them.
async function folderNames(count) {
  server().performExpand(mainWindow.msgWindow);
  await until(() => server().rootFolder.descendants.length >= count);
  return server().rootFolder.descendants.map(one => one.name);
}

// Opens the folder in the window, waits until its list of messages has `count` rows, gives the subjects in it.
async function listed(name, count) {
  const pane = messagePane();
  pane.displayFolder(folder(name).URI);
  await until(() => pane.gDBView?.rowCount == count);
  return [...Array(count).keys()].map(row => pane.gDBView.getMsgHdrAt(row).mime2DecodedSubject);
}

// The subjects of what the server, not the program's own index, finds in the folder.
async function searched(name, attribute, text) {
  const { promise, resolve } = Promise.withResolvers();
  const search = Cc["@mozilla.org/messenger/searchSession;1"].createInstance(Ci.nsIMsgSearchSession);
  const term = search.createTerm();
  term.attrib = Ci.nsMsgSearchAttrib[attribute];
  term.op = Ci.nsMsgSearchOp.Contains;
  const value = term.value; // a copy, which must be given back
  value.attrib = term.attrib;
  value.str = text;
  term.value = value;
  term.booleanAnd = true;
  search.appendTerm(term);
  search.addScopeTerm(Ci.nsMsgSearchScope.onlineMail, folder(name));
  const found = [];
  search.registerListener({
    onNewSearch() {},
    onSearchHit: header => found.push(header.mime2DecodedSubject),
    onSearchDone: resolve,
  });
  search.search(mainWindow.msgWindow);
  const status = await promise;
  if (!Components.isSuccessCode(status)) {
    throw new Error(`search ended with ${status}`);
  }
  return found;
}

function withSubjects(name, subjects) {
  const wanted = new Set(subjects);
  const found = [...folder(name).messages].filter(header => wanted.has(header.mime2DecodedSubject));
  if (found.length != subjects.length) {
    throw new Error(`${found.length} of ${subjects.length} messages in ${name}`);
  }
  return found;
}

async function move(name, subjects, target) {
  const { promise, listener } = ending();
  const messages = withSubjects(name, subjects);
  MailServices.copy.copyMessages(folder(name), messages, folder(target), true, listener, mainWindow.msgWindow, true);
  await promise;
}

async function remove(name, subjects) {
  const { promise, listener } = ending();
  folder(name).deleteMessages(withSubjects(name, subjects), mainWindow.msgWindow, false, false, listener, true);
  await promise;
}

// Shows a message in the window's pane and waits until that has marked it as read.
async function read(name, subject) {
  const pane = messagePane();
  const [header] = withSubjects(name, [subject]);
  pane.threadTree.selectedIndex = pane.gDBView.findIndexOfMsgHdr(header, true);
  await until(() => header.isRead);
}

// Waits until the program knows of `count` messages, which the server tells it without being asked.
async function told(name, count) {
  await until(() => folder(name).getTotalMessages(false) == count);
}
