"""Settings with other values here and there."""

from collections.abc import Mapping

import msgspec

from config.settings import Settings


def with_changes(settings: Settings, **sections: Mapping[str, object]) -> Settings:
    """The settings with other values in some sections: with_changes(settings, imap={"notify_mailboxes": 6})."""
    changed = {name: msgspec.structs.replace(getattr(settings, name), **values) for name, values in sections.items()}
    return msgspec.structs.replace(settings, **changed)
