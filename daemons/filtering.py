"""The filters that can be named in smtp.filters, made as the configuration wants them."""

from collections.abc import Callable, Mapping, Sequence

from daemons.antivirus import build_antivirus
from daemons.authenticity import build_authentication
from daemons.context import Context
from filters.mime import Mime, MimeRules
from filters.ports import ContentFilter
from storage.errors import StorageError


def build_mime(context: Context) -> Mime:
    """The filter `mime` as configured."""
    settings = context.settings.mime
    return Mime(
        MimeRules(
            part_limit=settings.part_limit,
            depth_limit=settings.depth_limit,
            forbidden_suffixes=frozenset(suffix.lower().lstrip(".") for suffix in settings.forbidden_suffixes),
            forbidden_types=frozenset(kind.lower() for kind in settings.forbidden_types),
            forbidden=settings.forbidden,
            encrypted_archives=settings.encrypted_archives,
        )
    )


CONTENT_FILTERS: Mapping[str, Callable[[Context], ContentFilter]] = {
    "antivirus": build_antivirus,
    "authentication": build_authentication,
    "mime": build_mime,
}


def content_filters(names: Sequence[str], context: Context) -> list[ContentFilter]:
    """The filters of these names, in their order. Raises StorageError for a name that no filter has."""
    for name in names:
        if name not in CONTENT_FILTERS:
            raise StorageError(f"smtp.filters: there is no filter {name!r}")
    return [CONTENT_FILTERS[name](context) for name in names]
