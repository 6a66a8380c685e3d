"""Every transcripts/*.txt, played against the running service over TLS."""

from pathlib import Path

import pytest

from storage import scripts
from storage.scripts import Bounds
from tests.daemons.imap.conftest import Service, mail
from tests.daemons.imap.conversation import Conversation, Script

TRANSCRIPTS = sorted(Path(__file__).parent.joinpath("transcripts").glob("*.txt"))


@pytest.mark.parametrize("path", TRANSCRIPTS, ids=lambda path: path.stem)
async def test_transcript(path: Path, service: Service) -> None:
    """The service answers as the transcript has it."""
    script = Script.parse(path.read_text("utf-8"))
    for mailbox, flags, subject in script.messages:
        await service.deliver(mail(subject), mailbox=mailbox, flags=flags)
    for name, source in script.scripts:
        async with service.context.pool.acquire() as connection:
            await scripts.put(connection, service.person.account_id, name, source.encode(), Bounds(10, 10_000))
    login = None if script.is_anonymous else service.person.login
    await Conversation(service.endpoints["imaps"], service.tls, login).play(script)
