"""The model store: versions that never change, a pointer that moves in one step and back, and who moved it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest
from pipeline_runs import FinishedRun, copied, other_model

from hcs_nuclei.audit import audit_path, read_audit
from hcs_nuclei.cli import main
from hcs_nuclei.errors import ModelError, OutputError, RunConflictError
from hcs_nuclei.models import list_models, read_card, resolve_model
from hcs_nuclei.models.card import CARD_FILE
from hcs_nuclei.models.loading import load_segmenter
from hcs_nuclei.models.promotion import add_model, promote, rollback
from hcs_nuclei.models.store import CURRENT_FILE, SHIPPED, read_current, store_directory
from hcs_nuclei.pipeline import prepare_plate
from hcs_nuclei.settings import Settings


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HCS_NUCLEI_HOME", str(tmp_path / "home"))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two model directories, as trainings leave them; only to be looked at."""
    folder = tmp_path_factory.mktemp("trained")
    one, two = other_model(folder / "one"), other_model(folder / "two", by=0.002)
    (one / "report.html").write_text("<p>")
    (one / "checkpoint").mkdir()
    return one, two


def _sha256(wanted: str | Path = "default") -> str:
    return resolve_model(str(wanted))[1].sha256


def test_a_model_is_added_whole_under_what_it_is_and_read_only(trained: tuple[Path, Path]) -> None:
    directory, card = add_model(trained[0])

    assert directory == store_directory() / read_card(trained[0]).identifier
    assert card == read_card(trained[0])
    assert sorted(path.name for path in directory.iterdir()) == [CARD_FILE, "report.html", "weights.safetensors"]
    assert all(path.stat().st_mode & 0o777 == 0o444 for path in directory.iterdir())
    assert _sha256() == _sha256(SHIPPED)  # it is there, and not more than that
    before = [(path.stat().st_ino, path.stat().st_mtime_ns) for path in directory.iterdir()]
    assert add_model(trained[0]) == (directory, card)
    assert before == [(path.stat().st_ino, path.stat().st_mtime_ns) for path in directory.iterdir()]


def test_what_does_not_match_its_card_is_not_added(trained: tuple[Path, Path], tmp_path: Path) -> None:
    damaged = Path(shutil.copytree(trained[0], tmp_path / "damaged"))
    (damaged / "weights.safetensors").write_bytes(b"other")

    with pytest.raises(ModelError, match="do not match their card"):
        add_model(damaged)
    with pytest.raises(ModelError, match="do not match their card"):
        promote(str(damaged))
    assert list(store_directory().glob("[!.]*")) == []
    assert list(read_audit()) == []


def test_a_version_that_is_damaged_in_the_store_is_not_taken_for_the_same(trained: tuple[Path, Path]) -> None:
    directory, card = add_model(trained[0])
    (directory / "weights.safetensors").chmod(0o644)
    (directory / "weights.safetensors").write_bytes(b"other")

    with pytest.raises(ModelError, match=rf"should hold other \({card.identifier}\), and does not: .*Move it away"):
        promote(str(trained[0]))
    assert _sha256() == _sha256(SHIPPED)


def test_promoted_is_default_and_rolling_back_goes_one_step_each_time(trained: tuple[Path, Path]) -> None:
    shipped, one, two = (read_card(place) for place in (SHIPPED, *trained))
    first = promote(str(trained[0]), reason="better on U2OS")
    assert first is not None
    assert (_sha256(), resolve_model()[0].parent) == (one.sha256, store_directory())
    assert promote(one.identifier, reason="again") is None
    second = promote(str(trained[1]))
    assert second is not None
    assert (second.old, second.new) == (f"other ({one.identifier})", f"other ({two.identifier})")
    assert [step.reason for step in read_current().promotions] == ["better on U2OS", ""]

    assert rollback(reason="too many merges").reason == "too many merges"
    assert _sha256() == one.sha256
    assert rollback().new == f"{shipped.name} ({shipped.identifier}), shipped"
    assert resolve_model() == (SHIPPED, shipped)
    with pytest.raises(ModelError, match="no step to go back"):
        rollback()
    assert [(entry.what, entry.new) for entry in read_audit()] == [
        ("model.promote", f"other ({one.identifier})"),
        ("model.promote", f"other ({two.identifier})"),
        ("model.rollback", f"other ({one.identifier})"),
        ("model.rollback", f"{shipped.name} ({shipped.identifier}), shipped"),
    ]
    assert [card.sha256 for _, card in list_models()] == [
        shipped.sha256,
        *sorted([one.sha256, two.sha256], key=lambda sha256: sha256[:12]),
    ]


def test_the_shipped_model_can_be_kept_through_upgrades() -> None:
    promote(read_card(SHIPPED).identifier)

    assert resolve_model() == (store_directory() / read_card(SHIPPED).identifier, read_card(SHIPPED))
    assert [place for place, _ in list_models()] == [SHIPPED]  # and is listed once


def test_a_promoted_model_that_is_gone_or_damaged_is_never_replaced_by_another(trained: tuple[Path, Path]) -> None:
    promote(str(trained[0]))
    directory, card = resolve_model()
    weights = directory / "weights.safetensors"
    weights.chmod(0o644)
    content = weights.read_bytes()
    weights.write_bytes(content[:-1])
    with pytest.raises(
        ModelError, match=rf"promoted model other \({card.identifier}\) .*do not match.*models rollback"
    ):
        resolve_model()
    weights.write_bytes(content)
    assert _sha256() == card.sha256

    shutil.rmtree(directory)
    with pytest.raises(ModelError, match=r"cannot be used\. .*no card\.json\. Put it back, promote another"):
        resolve_model()
    shutil.copytree(trained[1], directory)
    with pytest.raises(ModelError, match=rf"holds other \({read_card(trained[1]).identifier}\)\. Put it back"):
        resolve_model()
    assert _sha256(SHIPPED) == read_card(SHIPPED).sha256  # one that is named is still found
    rollback()
    assert resolve_model()[0] == SHIPPED


def test_going_back_to_what_is_gone_changes_nothing(trained: tuple[Path, Path]) -> None:
    promote(str(trained[0]))
    shutil.move(resolve_model()[0], store_directory().parent / "elsewhere")
    promote(str(trained[1]))

    with pytest.raises(ModelError, match=r"The promoted model other \(.*no card\.json"):
        rollback()
    assert _sha256() == read_card(trained[1]).sha256
    assert len(list(read_audit())) == 2


def test_a_pointer_that_cannot_be_read_is_said(trained: tuple[Path, Path]) -> None:
    promote(str(trained[0]))
    (store_directory() / CURRENT_FILE).write_text('{"promotions": [{')

    for attempt in (resolve_model, rollback, lambda: promote(str(trained[1]))):
        with pytest.raises(ModelError, match=r"current\.json cannot be read .*remove that file and promote"):
            attempt()


def test_a_promotion_that_cannot_be_accounted_for_is_not_made(trained: tuple[Path, Path]) -> None:
    audit_path().mkdir(parents=True)

    with pytest.raises(OutputError, match="audit log"):
        promote(str(trained[0]))
    assert resolve_model()[0] == SHIPPED


def test_a_damaged_model_in_the_store_is_no_obstacle_to_another(trained: tuple[Path, Path]) -> None:
    one, two = (add_model(place)[0] for place in trained)
    (one / CARD_FILE).chmod(0o644)
    (one / CARD_FILE).write_text("{")

    assert resolve_model(two.name)[0] == two
    with pytest.raises(ModelError, match="is not valid"):
        list(list_models())


def test_many_may_promote_at_once(trained: tuple[Path, Path]) -> None:
    for place in trained:
        add_model(place)
    code = (
        "import sys; from hcs_nuclei.models import promotion\n"
        "promotion.load_network = lambda *_: None  # seconds each, and not what is looked at\n"
        "for _ in range(10): [promotion.promote(model) for model in sys.argv[1:]]"
    )
    names = [read_card(place).identifier for place in trained]
    writers = [subprocess.Popen([sys.executable, "-c", code, *order]) for order in (names, names[::-1])]
    assert [writer.wait(timeout=120) for writer in writers] == [0, 0]

    steps = [step.sha256[:12] for step in read_current().promotions]
    assert steps == [entry.new.split("(")[1].rstrip(")") for entry in read_audit()]
    assert all(before != after for before, after in pairwise(steps))
    assert not list(store_directory().glob(".tmp-*"))


def test_a_model_that_was_judged_against_a_former_default_is_not_promoted(trained: tuple[Path, Path]) -> None:
    judged_against = _sha256()
    promote(str(trained[0]), instead_of=judged_against)
    with pytest.raises(RunConflictError, match=r"judged against another model than the default, which is now other \("):
        promote(str(trained[1]), instead_of=judged_against)
    assert _sha256() == read_card(trained[0]).sha256
    assert promote(str(trained[1]), instead_of=_sha256()) is not None


def test_what_is_promoted_is_what_was_judged(trained: tuple[Path, Path]) -> None:
    one, two = trained
    with pytest.raises(RunConflictError, match="is not the model that was judged"):
        promote(str(one), judged=_sha256(two))
    assert _sha256() == _sha256(SHIPPED)
    assert promote(str(one), judged=_sha256(one)) is not None


def test_a_run_keeps_the_model_that_it_began_with(
    finished: FinishedRun, trained: tuple[Path, Path], tmp_path: Path
) -> None:
    out, _ = copied(finished, tmp_path)
    begun, _ = prepare_plate(finished.plate, tmp_path / "new", Settings())
    promote(str(trained[0]))

    # One that is under way loads what it resolved to.
    assert load_segmenter(begun.context.model_directory, begun.context.model_sha256) is not None
    assert begun.context.model_sha256 == read_card(SHIPPED).sha256
    # One that is started again is told that the default has moved, and goes on with the model that it names.
    with pytest.raises(RunConflictError, match=r"the model was nuclei-.*, now it is other \("):
        prepare_plate(finished.plate, out, Settings())
    again, card = prepare_plate(finished.plate, out, Settings(model=read_card(SHIPPED).identifier))
    assert (again.outstanding, again.finished) == ((), 4)
    assert card.sha256 == read_card(SHIPPED).sha256


def test_the_commands_say_what_they_did(trained: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    shipped, one = read_card(SHIPPED), read_card(trained[0])
    assert main(["models", "promote", str(trained[0]), "--reason", "a try"]) == 0
    said = f"The default was {shipped.name} ({shipped.identifier}), shipped; now it is other ({one.identifier}).\n"
    assert capsys.readouterr().out == said
    assert main(["models", "promote", one.identifier]) == 0
    assert capsys.readouterr().out == "It is the default already.\n"
    assert main(["models", "list"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"{shipped.identifier}  {shipped.name}",
        f"{one.identifier}  other  (default)",
    ]
    shutil.move(resolve_model()[0], store_directory().parent / "elsewhere")
    assert main(["models", "list", "--json", "-"]) == 2
    out, err = capsys.readouterr()
    assert [row["default"] for row in json.loads(out)] == [False]
    assert "Put it back" in err
    assert main(["models", "rollback"]) == 0
    assert capsys.readouterr().out.endswith(f"now it is {shipped.name} ({shipped.identifier}), shipped.\n")
    assert main(["models", "rollback"]) == 2
    assert main(["models", "promote", "absent"]) == 2
