"""The card of a dataset on the Hub: YAML that the Hub reads, and where the dataset comes from.

Format: https://huggingface.co/docs/hub/datasets-cards
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from helpers.lib import private
from helpers.lib.text import clean
from helpers.rendering import sealing
from helpers.rendering.render import environment

MARKER = "<!-- a dataset card of hpc-agent-bench: it is written anew by each upload -->"
# of those that the Hub knows, https://huggingface.co/docs/hub/repositories-licenses; others are `other`, with their name
LICENCES = frozenset(
    "mit apache-2.0 bsd-2-clause bsd-3-clause cc0-1.0 cc-by-4.0 cc-by-sa-3.0 cc-by-sa-4.0 cc-by-nc-4.0 cc-by-nc-sa-4.0 gpl-2.0 gpl-3.0 "
    "lgpl-3.0 agpl-3.0 mpl-2.0 odc-by odbl isc unlicense".split()
)


@dataclass(frozen=True)
class Provenance:
    """What a dataset's card says of where it comes from. kind: tasks or traces; models: their revisions; counts: of rows, by state."""

    kind: str
    source: str | None = None
    source_revision: str | None = None
    licence: str | None = None
    models: Mapping[str, str | None] = field(default_factory=dict)
    counts: Mapping[str, int] = field(default_factory=dict)
    generator: str | None = None
    config_hash: str | None = None
    commit: str | None = None
    dirty: bool | None = None

    @classmethod
    def here(cls, kind: str, **told: Any) -> Provenance:
        """One that tells the commit of this checkout."""
        commit, dirty = sealing.git_state()
        return cls(kind, **{"commit": commit, "dirty": dirty, **told})


def render(repo: str, provenance: Provenance, names: Sequence[str]) -> str:
    """The dataset card: YAML that the Hub reads, then where the dataset comes from. names: of the files.

    Format: https://huggingface.co/docs/hub/datasets-cards
    """
    templates = environment("datagen")
    templates.filters["yaml"] = lambda value: json.dumps(value, ensure_ascii=False)  # YAML holds JSON
    templates.filters["line"] = _line
    licence = provenance.licence.lower() if provenance.licence else None
    folder, _, last = (names[0] if names else "").rpartition("/")
    source = provenance.source
    told = {name: getattr(provenance, name) for name in Provenance.__dataclass_fields__}
    if source and Path(source).is_absolute():  # where it lies here is nobody's business there
        told["source"] = Path(source).name
    return templates.get_template("dataset_card.md.j2").render(
        **told,
        repo=repo,
        marker=MARKER,
        pattern=f"{folder}/*{Path(last).suffix}".lstrip("/"),
        license=licence if licence in LICENCES else licence and "other",
        license_name=licence,
    )


def _line(value: Any) -> str:
    """A text in a cell of a table of Markdown."""
    return re.sub(r"([|<>`\[\]*_\\])", r"\\\1", " ".join(private.mask(clean(value)).split()))
