"""Changes the signing keys of a network folder: a new key beside the old one, and the old one's end.

Each step writes one file whole; the private key is there before network.json speaks of it, and gone only
after network.json says that it counts no more.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from salus.crypto.keys import load_all_ed25519, save_ed25519
from salus.devkit.errors import DevkitError, NetworkFileError
from salus.devkit.network import NetworkFolder
from salus.ledger.cosignature import CosignatureSigner, CosignatureVerifier
from salus.ledger.errors import PolicyError
from salus.ledger.note import NoteSigner
from salus.ledger.policy import Policy
from salus.ledger.quorum import Group, Quorum, Witness
from salus.ledger.tlog_policy import TlogPolicy

Role = Literal["sequencer", "log", "witness"]


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose keys: a role, and which shard or witness (witnesses are counted from 1)."""

    role: Role
    number: int = 0

    @property
    def file_name(self) -> str:
        """What the private key file is called."""
        named = {"sequencer": f"shard-{self.number}", "log": "log", "witness": f"witness-{self.number}"}
        return named[self.role]


@dataclass(frozen=True, slots=True)
class KeyEntry:
    """One key as network.json has it; `held` if the folder has its private half."""

    owner: Owner
    name: str
    verifier_key: str
    first: int
    end: int | None
    held: bool

    @property
    def key_id(self) -> str:
        """The key id in hex."""
        return self.verifier_key.removeprefix(f"{self.name}+")[:8]


class KeyFiles:
    """The signing keys of a network folder."""

    def __init__(self, folder: NetworkFolder) -> None:
        self._folder = folder

    def entries(self) -> list[KeyEntry]:
        """Return every key of the shards, the log and the witnesses, in the order of their periods."""
        network = self._folder.read()
        owners = [Owner("sequencer", shard["id"]) for shard in network["shards"]]
        owners += [Owner("log"), *(Owner("witness", n + 1) for n in range(self._folder.witnesses))]
        return [entry for owner in owners for entry in self.of(owner)]

    def of(self, owner: Owner) -> list[KeyEntry]:
        """Return the keys of one owner; raises NetworkFileError if the network has none such."""
        network = self._folder.read()
        name, described = _described(network, owner)
        held = self._held(owner, name)
        entries = [
            KeyEntry(
                owner,
                name,
                one["verifier_key"],
                one.get("from", 0),
                one.get("until"),
                one["verifier_key"] in held,
            )
            for one in described
        ]
        return sorted(entries, key=lambda entry: (entry.first, entry.end or 0))

    def add(self, owner: Owner, *, first: int) -> KeyEntry:
        """Make a key that signs from this position on, beside the one that does now.

        Raises:
            DevkitError: a key is on its way already, or the private keys are not here.
        """
        with self._folder.changing():
            return self._add(owner, first)

    def _add(self, owner: Owner, first: int) -> KeyEntry:
        before = self.of(owner)
        if sum(entry.end is None for entry in before) > 1:
            raise DevkitError(f"{before[0].name} has two keys already: retire one first")
        path = self._folder.key_file(owner.file_name)
        if not path.exists():
            raise DevkitError(f"the private key of {before[0].name} is not here: there is no {path}")
        key = Ed25519PrivateKey.generate()
        save_ed25519(path, *load_all_ed25519(path), key)
        vkey = _vkey(owner, before[0].name, key)
        network = self._folder.read()
        _add_key(network, owner, before, vkey, first)
        self._write(network)
        return KeyEntry(owner, before[0].name, vkey, first, None, held=True)

    def retire(self, entry: KeyEntry, *, end: int) -> int:
        """Let a key count no more from this position on, and forget its private half; return the position.

        If it was retired already, it is the position that stands.

        Raises:
            DevkitError: no other key would sign then.
        """
        with self._folder.changing():
            return self._retire(entry, end)

    def _retire(self, entry: KeyEntry, end: int) -> int:
        network = self._folder.read()
        _, described = _described(network, entry.owner)
        for one in described:
            if one["verifier_key"] == entry.verifier_key:
                end = one.setdefault("until", end)
        _store(network, entry.owner, described)
        self._write(network)
        path = self._folder.key_file(entry.owner.file_name)
        if path.exists():
            keys = load_all_ed25519(path)
            left = [k for k in keys if _vkey(entry.owner, entry.name, k) != entry.verifier_key]
            save_ed25519(path, *left)
        return end

    def end(self, shard: int, *, before: int) -> KeyEntry:
        """End a shard's chain before a height: no key signs from there on. Return the last key that does.

        What began to count only behind it is taken out: what it signed is void. Another end stays as it is.

        Raises:
            DevkitError: the chain has ended elsewhere, or `before` leaves it no block.
        """
        owner = Owner("sequencer", shard)
        with self._folder.changing():
            network = self._folder.read()
            name, described = _described(network, owner)
            ends = [one["until"] for one in described if one.get("until") is not None]
            if len(ends) == len(described) and before != max(ends):
                raise DevkitError(f"the chain of {name} ended before block {max(ends)} already")
            left = [one for one in described if one.get("from", 0) < before]
            if not left:
                raise DevkitError(f"no block of {name} would be left before {before}")
            for one in left:
                one["until"] = min(one.get("until", before), before)
            _store(network, owner, left)
            self._write(network)
            return max(self.of(owner), key=lambda entry: (entry.end or 0, entry.first))

    def _write(self, network: Mapping[str, Any]) -> None:
        try:
            Policy.from_network(_encoded(network))
        except PolicyError as error:
            raise DevkitError(f"network.json would make no sense: {error}") from None
        self._folder.write(network)

    def _held(self, owner: Owner, name: str) -> set[str]:
        path = self._folder.key_file(owner.file_name)
        if not path.exists():
            return set()
        return {_vkey(owner, name, key) for key in load_all_ed25519(path)}


def _vkey(owner: Owner, name: str, key: Ed25519PrivateKey) -> str:
    return (CosignatureSigner if owner.role == "witness" else NoteSigner)(name, key).vkey


def _described(network: Mapping[str, Any], owner: Owner) -> tuple[str, list[dict[str, Any]]]:
    """Return the owner's key name and its keys as network.json describes them."""
    if owner.role == "witness":
        return _described_witness(network, owner.number)
    found = [network["log"]] if owner.role == "log" else network["shards"]
    found = [one for one in found if owner.role == "log" or one["id"] == owner.number]
    if not found:
        raise NetworkFileError(f"the network has no shard {owner.number}")
    keys = found[0].get("keys") or [{"verifier_key": found[0]["verifier_key"]}]
    return found[0]["origin"], [dict(key) for key in keys]


def _described_witness(network: Mapping[str, Any], number: int) -> tuple[str, list[dict[str, Any]]]:
    verifiers = _quorum(network).verifiers
    names = list(dict.fromkeys(verifier.name for verifier in verifiers))
    if not 1 <= number <= len(names):
        raise NetworkFileError(f"the network has no witness {number}")
    periods = {one["verifier_key"]: one for one in network.get("witness_periods", [])}
    name = names[number - 1]
    vkeys = [verifier.vkey for verifier in verifiers if verifier.name == name]
    return name, [dict(periods.get(vkey, {"verifier_key": vkey})) for vkey in vkeys]


def _add_key(network: dict[str, Any], owner: Owner, before: list[KeyEntry], vkey: str, first: int) -> None:
    _, described = _described(network, owner)
    if owner.role == "witness":
        quorum = with_key(_quorum(network), before[-1].verifier_key, vkey)
        network["policy"] = TlogPolicy((), quorum).lines()
    _store(network, owner, [*described, {"verifier_key": vkey, "from": first}])


def _store(network: dict[str, Any], owner: Owner, described: list[dict[str, Any]]) -> None:
    if owner.role == "witness":
        names = {one["verifier_key"] for one in described}
        others = [one for one in network.get("witness_periods", []) if one["verifier_key"] not in names]
        network["witness_periods"] = others + [one for one in described if len(one) > 1]
        return
    of = network["log"] if owner.role == "log" else None
    of = of or next(shard for shard in network["shards"] if shard["id"] == owner.number)
    of["keys"], of["verifier_key"] = described, described[-1]["verifier_key"]


def with_key(quorum: Quorum, old: str, new: str) -> Quorum:
    """Return the quorum in which the new key of a witness counts as its old one does, and never twice.

    The witness becomes a group of which any key is enough; what was cosigned before stays final.
    """
    witness = next(one for one in quorum.witnesses if one.verifier.vkey == old)
    home = next((group for group in quorum.groups if witness.name in group.members), None)
    new_key = CosignatureVerifier.from_vkey(new)
    same = {one.name for one in quorum.witnesses if one.verifier.name == new_key.name}
    if home is not None and home.threshold == 1 and set(home.members) <= same:
        added = Witness(_free(quorum, witness.name), new_key, witness.url)
        groups = tuple(
            replace(group, members=(*group.members, added.name)) if group is home else group
            for group in quorum.groups
        )
        return replace(quorum, witnesses=(*quorum.witnesses, added), groups=groups)
    alone = replace(witness, name=_free(quorum, witness.name))
    added = Witness(_free(quorum, witness.name, alone.name), new_key, witness.url)
    witnesses = (*(alone if one is witness else one for one in quorum.witnesses), added)
    both = Group(witness.name, 1, (alone.name, added.name))
    return Quorum(witnesses, (both, *quorum.groups), quorum.required)


def _free(quorum: Quorum, name: str, *taken: str) -> str:
    names = {one.name for one in quorum.witnesses} | {one.name for one in quorum.groups} | set(taken)
    stem = name.partition("#")[0]
    return next(free for n in range(1, len(names) + 2) if (free := f"{stem}#{n}") not in names)


def _quorum(network: Mapping[str, Any]) -> Quorum:
    try:
        return Policy.from_network(_encoded(network)).quorum
    except PolicyError as error:
        raise DevkitError(f"network.json makes no sense: {error}") from None


def _encoded(network: Mapping[str, Any]) -> bytes:
    return json.dumps(network).encode()
