"""The redirects of one account and one message: circles, what was sent on before, and what stays here because it cannot be sent."""

import asyncio
import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from config.units import DAY
from daemons.delivery import mapped
from daemons.smtp.circles import name_of, passed_by
from daemons.smtp.delivering.case import Case, Means
from daemons.smtp.delivering.incoming import Delivery
from daemons.smtp.delivering.redirects import Targets
from daemons.smtp.delivering.trust import may_be_told
from daemons.smtp.transaction import Onward
from filters.sieve.actions import Redirect
from protocol.address import AddressError, AddrSpec, parse_addr_spec
from protocol.smtp.command import Rcpt
from protocol.smtp.parameters import RcptParameters
from protocol.smtp.reply import Reply
from storage.memory import Remember, is_remembered

_REMEMBERED_SECONDS = int(2 * DAY)  # within which a client that has not heard our reply brings the same message again


class SendingOn:
    """Of one account and one message."""

    def __init__(self, means: Means, case: Case, delivery: Delivery, addresses: Sequence[str]) -> None:
        """addresses: those of the account, the main one first."""
        self._means = means
        self._case = case
        self._delivery = delivery
        path = delivery.addressee.rcpt.forward_path
        self._own = {name_of(each) for each in (*addresses, str(path))}
        self._forwarder = parse_addr_spec(addresses[0]) if addresses else path

    async def carry_out(self, redirects: Sequence[Redirect]) -> None:
        """All of them. What cannot be sent on is told in `done`; nothing else is done about it here. Raises StorageError."""
        done = self._delivery.done
        hostname = self._means.context.settings.hostname
        if not self._own.isdisjoint(await passed_by(self._case.incoming.original, hostname)):
            done.append("not sent on: it has been before, and came back")
            return
        digest = await self._digest()
        ways: dict[tuple[object, str | None], tuple[Redirect, list[Onward]]] = {}  # what can be queued as one message
        places: list[Rcpt] = []  # where it goes
        for redirect in redirects:
            wanted = await self._addresses(redirect)
            _, onward = ways.setdefault((redirect.message and id(redirect.message), redirect.ret), (redirect, []))
            for address in wanted:
                key = f"{digest}\0{name_of(address)}"
                if digest and await self._is_remembered(key):
                    done.append(f"sent on to {address} before")
                    self._delivery.is_sent_on = True
                    continue
                found = await self._targets(redirect, address, is_alone=len(wanted) == len(redirects) == 1)
                if isinstance(found, Reply):
                    done.append(f"not sent on to {address}: {' '.join(found.lines)}")
                    continue
                done.append(f"sent on to {address}")
                self._delivery.is_sent_on |= bool(found.onward)
                onward += found.onward
                places += [each.rcpt for each in found.local] + [each.rcpt for each in found.onward]
                await self._pass_to(found, redirect)
                if digest:
                    self._remember(key)
        for redirect, onward in ways.values():
            await self._queue(onward, redirect)
        self._report(places, is_elsewhere=any(onward for _, onward in ways.values()))

    def _report(self, places: Sequence[Rcpt], *, is_elsewhere: bool) -> None:
        """How success is reported to a sender who asked for that: by the one place where it goes, if that is asked to, or by us."""
        if len(places) > 1:
            self._delivery.passed_on = "expanded"
        elif is_elsewhere and not (self._may_be_told and "SUCCESS" in (places[0].parameters.notify or ())):
            self._delivery.passed_on = "relayed"

    async def _addresses(self, redirect: Redirect) -> list[AddrSpec]:
        """To whom: an address, or all members of a list of the account (RFC 6134 §2.2)."""
        if redirect.list_name is None:
            return self._parsed([redirect.address])
        members = await self._means.scripting.members(self._case.owner, redirect.list_name)
        if not members:
            self._delivery.done.append(f"not sent on: the list {redirect.list_name!r} has nobody in it")
            return []
        limit = self._means.context.settings.smtp.forward_limit
        if len(members) > limit:
            self._delivery.done.append(f"not sent on: the list {redirect.list_name!r} has more than {limit} members")
            return []
        return self._parsed(members)

    def _parsed(self, texts: Sequence[str]) -> list[AddrSpec]:
        found: dict[AddrSpec, None] = {}
        for text in texts:
            try:
                found[parse_addr_spec(text)] = None
            except AddressError:
                self._delivery.done.append(f"not sent on: {text!r} is no address")
        return list(found)

    async def _targets(self, redirect: Redirect, address: AddrSpec, *, is_alone: bool) -> Targets | Reply:
        """Who is behind an address, with what they are to report: RFC 6009 §3, RFC 3461 §5.2.7."""
        addressee = self._delivery.addressee
        notify = redirect.notify
        if notify is None:
            notify = addressee.rcpt.parameters.notify
            if notify is not None and (self._delivery.is_kept or not is_alone):  # success is told by us, or by nobody
                notify = tuple(word for word in notify if word != "SUCCESS") or ("NEVER",)
        orcpt = addressee.rcpt.parameters.orcpt or _orcpt(addressee.rcpt.forward_path)
        return await self._means.redirects.targets(
            address,
            RcptParameters(notify, orcpt),
            self._case.incoming.mail.reverse_path,
            self._forwarder,
            addressee.recipient,
        )

    async def _pass_to(self, targets: Targets, redirect: Redirect) -> None:
        """To accounts of this host, each by its own rules."""
        form = None if redirect.message is None else await self._case.form_of(redirect.message)
        for addressee in targets.local:
            self._delivery.led_to.add(addressee.recipient.account_id)
            further = await self._case.further(addressee, form)
            if further is not None:
                self._delivery.further.append(further)

    async def _queue(self, onward: Sequence[Onward], redirect: Redirect) -> None:
        if not onward:
            return
        incoming = self._case.incoming
        keeps = self._delivery.is_kept
        self._delivery.messages += await self._means.redirects.messages(
            incoming,
            await self._case.form_of(redirect.message),
            [
                replace(each, keeps=keeps) if each.account == self._delivery.addressee.recipient else each
                for each in onward
            ],
            may_be_told=self._may_be_told,
            ret=redirect.ret,
        )

    @property
    def _may_be_told(self) -> bool:
        """Whether the sender hears from where it goes."""
        incoming, account_id = self._case.incoming, self._case.owner.account_id
        return may_be_told(incoming.mail.reverse_path, incoming.origin, self._case.own, account_id)

    # -- what was sent on before ------------------------------------------------------------------------------------

    async def _digest(self) -> str:
        """What the message is known by when it is brought again; "" for one without Message-ID, which may just look the same."""
        if self._case.incoming.facts.message_id is None:
            return ""
        original = self._case.incoming.original
        if isinstance(original, bytes):
            return hashlib.sha256(original).hexdigest()
        return await asyncio.to_thread(_digest_of_file, original)

    async def _is_remembered(self, key: str) -> bool:
        return await is_remembered(self._means.context.pool, self._case.owner.account_id, "redirect", key)

    def _remember(self, key: str) -> None:
        account_id = self._case.owner.account_id
        memory = Remember(account_id, "redirect", key, _REMEMBERED_SECONDS, is_exclusive=True)
        if memory not in self._delivery.effects:
            self._delivery.effects.append(memory)


def _digest_of_file(path: Path) -> str:
    with mapped(path) as octets:
        return hashlib.sha256(octets).hexdigest()


def _orcpt(address: AddrSpec) -> str:
    return f"{'rfc822' if address.is_ascii else 'utf-8'};{address}"
