"""Thunderbird on a screen of its own (Xvfb), driven over Marionette, the remote protocol of Mozilla's programs.

Scripts run in the program's own context, where its folders, accounts and windows are. They wait by its listeners.
"""

import json
import os
import re
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

_SCRIPT_SECONDS = 240
_START_SECONDS = 120
_ENVIRONMENT = {
    "LC_ALL": "C.UTF-8",
    "MOZ_CRASHREPORTER_DISABLE": "1",
    "MOZ_DISABLE_CONTENT_SANDBOX": "1",  # needs name spaces, which a container may not have
    "MOZ_REMOTE_SETTINGS_DEVTOOLS": "1",
    "NO_AT_BRIDGE": "1",
}
# Nothing that asks the user, and nothing that goes to the Internet.
_PREFERENCES: dict[str, bool | int | str] = {
    "marionette.port": 0,
    "app.donation.eoy.version.viewed": 999,
    "app.update.disabledForTesting": True,
    "browser.safebrowsing.malware.enabled": False,
    "browser.safebrowsing.phishing.enabled": False,
    "datareporting.healthreport.uploadEnabled": False,
    "datareporting.policy.dataSubmissionEnabled": False,
    "datareporting.policy.dataSubmissionPolicyBypassNotification": True,
    "extensions.getAddons.cache.enabled": False,
    "extensions.update.enabled": False,
    "mail.inappnotifications.enabled": False,
    "mail.provider.suppress_dialog_on_startup": True,
    "mail.rights.version": 1,
    # What comes while it downloads bodies for reading offline it shows at its next look at the folder only.
    "mail.server.default.autosync_offline_stores": False,
    "mail.server.default.offline_download": False,
    "mail.shell.checkDefaultClient": False,
    "mail.spotlight.firstRunDone": True,
    "mailnews.start_page.enabled": False,
    "mailnews.start_page_override.mstone": "ignore",
    "messenger.startup.action": 0,
    "network.captive-portal-service.enabled": False,
    "network.connectivity-service.enabled": False,
    "network.dns.localDomains": "localhost",
    "network.manage-offline-status": False,
    "network.proxy.type": 0,
    "services.settings.server": "data:,#remote-settings-dummy/v1",
    "toolkit.telemetry.enabled": False,
}


class MarionetteError(Exception):
    """The program refused a command, or a script threw; the text is its message and stack."""


class Marionette:
    """A session: JSON arrays behind their length, [0, id, command, parameters] and [1, id, error, result]."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), _SCRIPT_SECONDS + 30)
        self._file = self._socket.makefile("rb")
        self._number = 0
        self._packet()  # the greeting
        self.command("WebDriver:NewSession", {})
        self.command("WebDriver:SetTimeouts", {"script": _SCRIPT_SECONDS * 1000})
        self.command("Marionette:SetContext", {"value": "chrome"})

    def _packet(self) -> Any:
        digits = b""
        while (octet := self._file.read(1)) != b":":
            if not octet:
                raise MarionetteError("closed by the program")
            digits += octet
        return json.loads(self._file.read(int(digits)))

    def command(self, name: str, parameters: dict[str, Any]) -> Any:
        """Send a command; gives its result."""
        self._number += 1
        octets = json.dumps([0, self._number, name, parameters]).encode()
        self._socket.sendall(b"%d:%s" % (len(octets), octets))
        _, number, error, result = self._packet()
        assert number == self._number
        if error is not None:
            raise MarionetteError(f"{error['error']}: {error['message']}\n{error['stacktrace']}")
        return result

    def script(self, text: str, *arguments: Any) -> Any:
        """Run the body of an asynchronous function with `arguments`, wait for its end; gives what it returns."""
        lines = f"""
            const [done, given] = [arguments[arguments.length - 1], Array.from(arguments).slice(0, -1)];
            (async (...arguments) => {{ {text} }})(...given).then(
                value => done({{ value }}), error => done({{ error: `${{error}}\\n${{error?.stack}}` }}));
        """
        answer = self.command("WebDriver:ExecuteAsyncScript", {"script": lines, "args": arguments})["value"]
        if "error" in answer:
            raise MarionetteError(answer["error"])
        return answer.get("value")

    def close(self) -> None:
        """Close the connection."""
        self._file.close()
        self._socket.close()


@contextmanager
def screen() -> Iterator[str]:
    """A display without a screen; gives its name, as for DISPLAY."""
    reading, writing = os.pipe()
    command = ["Xvfb", "-displayfd", str(writing), "-screen", "0", "1280x1024x24", "-nolisten", "tcp"]
    server = subprocess.Popen(command, pass_fds=[writing], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    os.close(writing)
    try:
        with os.fdopen(reading) as told:
            number = told.readline().strip()  # it comes when the server listens
        if not number:
            raise MarionetteError(f"Xvfb ended with {server.wait(10)}")
        yield f":{number}"
    finally:
        server.terminate()
        server.wait(30)


def not_understood(home: Path) -> list[bytes]:
    """What the program, once it has ended, says of the server's lines that its IMAP parser refused."""
    (log,) = home.glob("imap.moz_log")
    return [line for line in log.read_bytes().splitlines() if b"Syntax Error" in line or b":PARSER:" in line]


@contextmanager
def thunderbird(home: Path) -> Iterator[Marionette]:
    """A started Thunderbird with a new profile below `home`; it must quit as it should."""
    profile = home / "profile"
    profile.mkdir()
    lines = [f"user_pref({json.dumps(name)}, {json.dumps(value)});\n" for name, value in _PREFERENCES.items()]
    (profile / "user.js").write_text("".join(lines))
    program = shutil.which("thunderbird")
    assert program is not None
    command = [program, "--marionette", "--remote-allow-system-access", "--no-remote", "--profile", str(profile)]
    with screen() as display:
        environment = {**_ENVIRONMENT, "PATH": os.environ["PATH"], "HOME": str(home), "DISPLAY": display}
        environment |= {"MOZ_LOG": "IMAP:3", "MOZ_LOG_FILE": str(home / "imap")}
        process = subprocess.Popen(
            command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        try:
            with closing(Marionette(_port(process, home / "thunderbird.output"))) as session:
                yield session
                session.command("Marionette:Quit", {"flags": ["eAttemptQuit"]})
            assert process.wait(30) == 0
        finally:
            process.kill()
            process.wait(30)


def _port(process: "subprocess.Popen[bytes]", output: Path) -> int:
    """Where the program listens, which it says on its output; the rest of that goes to a file."""
    assert process.stdout is not None
    told = process.stdout
    limit = threading.Timer(_START_SECONDS, process.kill)
    limit.start()
    said = []
    found = None
    for line in told:
        said.append(line)
        if found := re.search(rb"Listening on port (\d+)", line):
            break
    limit.cancel()
    if not found:
        raise MarionetteError(f"Thunderbird did not start\n{b''.join(said).decode('utf-8', 'replace')}")

    def rest() -> None:
        with told, output.open("wb") as file:
            file.writelines(said)
            file.writelines(told)

    threading.Thread(target=rest, daemon=True).start()  # it ends with the program
    return int(found[1])
