"""The registry against plugins that are really built, installed and found through their entry points."""

from __future__ import annotations

import copy
import importlib
import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from vjepa_distill import registry
from vjepa_distill.errors import UserError
from vjepa_distill.registry import builtin, lookup
from vjepa_distill.registry.offers import Offer, check_form

ROOT = Path(__file__).parents[2]
HEAD = "from vjepa_distill import hookimpl\n"

# distribution: (entry point, version, source of the module it names)
PLUGINS = {
    "vjepa-distill-quat": (
        "quat",
        "1.2",
        HEAD
        + """
@hookimpl
def register_backbones(register):
    register("quat/small", "quat_model:small", summary="a model of quaternions")
    register("quat/torn", "quat_model_that_is_not_there:small")
    register("free/*", "quat_model:free", models="quat_model:birds")

@hookimpl
def register_objectives(register):
    register("still", lambda embed_dim, weight=1.0: ("still", embed_dim, weight))

@hookimpl
def register_decoders(register):
    register("blank", "quat_model:Blank.reader")
""",
    ),
    # The same entry-point name as the one above, from another distribution.
    "vjepa-distill-twin": (
        "quat",
        "0.3",
        HEAD + "@hookimpl\ndef register_backbones(register): register('twin/small', 'quat_model:small')\n",
    ),
    "vjepa-distill-copy": (
        "copy",
        "2.0",
        HEAD
        + """
@hookimpl
def register_backbones(register):
    register("copy/own", "quat_model:small")
    register("quat/small", "quat_model:small")
""",
    ),
    "vjepa-distill-thief": (
        "thief",
        "1.0",
        HEAD + "@hookimpl\ndef register_backbones(register): register('vjepa/tiny', 'quat_model:small')\n",
    ),
    "vjepa-distill-squatter": (
        "squatter",
        "1.0",
        HEAD + "@hookimpl\ndef register_backbones(register): register('timm/mine', 'quat_model:small')\n",
    ),
    "vjepa-distill-torn": ("torn", "1.0", "import a_library_that_is_not_there\n"),
    "vjepa-distill-quitter": ("quitter", "1.0", "import sys\nsys.exit('goodbye')\n"),
    "vjepa-distill-misspelt": (
        "misspelt",
        "1.0",
        HEAD + "@hookimpl\ndef register_backbone(register): register('misspelt/small', 'quat_model:small')\n",
    ),
    "vjepa-distill-unmarked": (
        "unmarked",
        "1.0",
        "def register_backbones(register): register('unmarked/small', 'quat_model:small')\n",
    ),
    "vjepa-distill-newer": (
        "newer",
        "9.0",
        HEAD
        + """
@hookimpl
def register_backbones(register):
    register("newer/small", "quat_model:small", api=2, licence="an argument of the future")
""",
    ),
    "vjepa-distill-halfway": (
        "halfway",
        "1.0",
        HEAD
        + """
@hookimpl
def register_objectives(register):
    register("half", "quat_model:small")

@hookimpl
def register_decoders(register):
    raise RuntimeError("no luck today")
""",
    ),
    "vjepa-distill-twice": (
        "twice",
        "1.0",
        HEAD
        + """
@hookimpl
def register_backbones(register):
    for width in (4, 8):
        register("twice/small", "quat_model:small")
""",
    ),
    "vjepa-distill-nameless": (
        "nameless",
        "1.0",
        HEAD + "@hookimpl\ndef register_backbones(register): register('nameless', 'quat_model:small')\n",
    ),
}

MODEL = """
def small(width=4, *, depth=1): return ["small", width, depth]
def free(model, depth=1): return [model, depth]
def birds(): return ("wren", "dove")
class Blank:
    @staticmethod
    def reader(): return "blank"
"""


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder into which pip has installed all of the plugins above; no index is asked for anything."""
    work = tmp_path_factory.mktemp("plugins")
    for distribution, (entry, version, source) in PLUGINS.items():
        module = distribution.replace("-", "_")
        modules = [module] + (["quat_model"] if distribution == "vjepa-distill-quat" else [])
        (work / distribution).mkdir()
        (work / distribution / f"{module}.py").write_text(source)
        (work / distribution / "quat_model.py").write_text(MODEL)
        (work / distribution / "pyproject.toml").write_text(
            "[build-system]\nrequires = ['setuptools']\nbuild-backend = 'setuptools.build_meta'\n"
            f"[project]\nname = '{distribution}'\nversion = '{version}'\n"
            f"[project.entry-points.vjepa_distill]\n{entry} = '{module}'\n"
            f"[tool.setuptools]\npy-modules = {modules}\n"
        )
    target = work / "site"
    pip = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-index",
        "--no-deps",
        "--no-build-isolation",
    ]
    folders = [str(work / distribution) for distribution in PLUGINS]
    done = subprocess.run([*pip, "--target", str(target), *folders], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return target


def ask(code: str, site: Path | None, only: str | None = None, **environment: str) -> tuple[object, str]:
    """What a fresh interpreter prints as JSON, and its stderr; ``only`` is VJEPA_DISTILL_LOAD_PLUGINS."""
    env = {key: value for key, value in os.environ.items() if not key.startswith("VJEPA_DISTILL_")}
    env.update(environment, PYTHONPATH=os.pathsep.join([str(site or ""), str(ROOT)]))
    if only is not None:
        env["VJEPA_DISTILL_LOAD_PLUGINS"] = only
    program = f"""
import json
from vjepa_distill import registry
from vjepa_distill.errors import UserError
def trouble(*call, **options):
    try: return call[0](*call[1:], **options)
    except UserError as error: return "UserError: " + str(error)
print(json.dumps({code}))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=env)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout), done.stderr


def test_a_plugin_offers_all_three_kinds_beside_the_builtin_ones(site: Path) -> None:
    row = "[o.name, o.distribution, o.version, o.plugin, o.summary]"
    code = f"[{row} for o in registry.catalogue(%r).values()]"
    backbones, warnings = ask(code % "backbone", site, only="vjepa-distill-quat")
    assert ["quat/small", "vjepa-distill-quat", "1.2", "quat", "a model of quaternions"] in backbones
    names = [row[0] for row in backbones]
    assert names == sorted(names)
    assert {"vjepa/tiny", "timm/*", "free/*"} <= set(names)
    assert warnings == ""
    for kind, name in {"objective": "still", "decoder": "blank"}.items():
        assert name in [row[0] for row in ask(code % kind, site, only="vjepa-distill-quat")[0]]


def test_create_calls_lazy_eager_nested_and_family_targets(site: Path) -> None:
    code = """[
        registry.create("backbone", "quat/small", width=8),
        registry.create("backbone", "free/as/a.bird", depth=3),
        registry.create("objective", "still", embed_dim=5),
        registry.create("decoder", "blank"),
    ]"""
    answer, _ = ask(code, site, only="vjepa-distill-quat")
    assert answer == [["small", 8, 1], ["as/a.bird", 3], ["still", 5, 1.0], "blank"]


def test_listing_never_imports_a_lazy_target(site: Path) -> None:
    code = "[list(registry.catalogue('backbone')), 'quat_model' in __import__('sys').modules]"
    (names, imported), _ = ask(code, site, only="vjepa-distill-quat")
    assert "quat/torn" in names
    assert not imported
    words, _ = ask("trouble(registry.create, 'backbone', 'quat/torn')", site, only="vjepa-distill-quat")
    for part in ("vjepa-distill-quat 1.2", "quat_model_that_is_not_there:small", "ModuleNotFoundError"):
        assert part in words


@pytest.mark.parametrize(
    ("distribution", "reasons"),
    {
        "vjepa-distill-torn": ["ModuleNotFoundError", "a_library_that_is_not_there"],
        "vjepa-distill-quitter": ["SystemExit", "goodbye"],
        "vjepa-distill-misspelt": ["unknown hook 'register_backbone'", "register_backbones"],
        "vjepa-distill-unmarked": ["vjepa_distill_unmarked", "@vjepa_distill.hookimpl"],
        "vjepa-distill-newer": [
            "API 2",
            "speaks 1",
            "upgrade vjepa-distill",
            "older vjepa-distill-newer than 9.0",
        ],
        "vjepa-distill-halfway": ["RuntimeError", "no luck today"],
        "vjepa-distill-nameless": ["'nameless'", "expected family/model"],
        "vjepa-distill-twice": ["'twice/small'", "registered twice by vjepa-distill-twice 1.0"],
        "vjepa-distill-thief": ["'vjepa/tiny'", "vjepa-distill 0", "vjepa-distill-thief 1.0"],
        "vjepa-distill-squatter": ["'timm/mine'", "vjepa-distill 0", "vjepa-distill-squatter 1.0"],
    }.items(),
)
def test_a_broken_plugin_is_named_with_its_reason_and_leaves_nothing(
    site: Path, distribution: str, reasons: list[str]
) -> None:
    code = """[
        {p.distribution: p.error for p in registry.plugins()},
        [o.distribution for kind in registry.KINDS for o in registry.catalogue(kind).values()],
    ]"""
    (found, offering), stderr = ask(code, site, only=f"{distribution},vjepa-distill-twin")
    assert found["vjepa-distill"] == found["vjepa-distill-twin"] == ""
    for part in reasons:
        assert part in found[distribution]
    assert "\n" not in found[distribution]
    assert set(offering) == {"vjepa-distill", "vjepa-distill-twin"}
    assert stderr.count("is broken") == 1
    assert found[distribution] in stderr


def test_everything_at_once_still_leaves_the_sound_ones_working(site: Path) -> None:
    code = """[
        {p.distribution: p.error for p in registry.plugins()},
        {kind: list(registry.catalogue(kind)) for kind in registry.KINDS},
    ]"""
    (found, names), _ = ask(code, site)
    assert set(PLUGINS) <= set(found)
    assert {name for name in PLUGINS if not found[name]} == {"vjepa-distill-twin"}
    assert {"vjepa/tiny", "timm/*", "twin/small", "free/*", "copy/own"} <= set(names["backbone"])
    assert not {"half", "quat/small", "timm/mine", "twice/small"} & {
        name for some in names.values() for name in some
    }
    assert "blank" in names["decoder"]


def test_two_distributions_may_share_an_entry_point_name(site: Path) -> None:
    code = "sorted(name for name in registry.catalogue('backbone') if name in ('quat/small', 'twin/small'))"
    assert ask(code, site, only="quat")[0] == ["quat/small", "twin/small"]


def test_a_name_that_two_strangers_offer_is_refused_naming_both(site: Path) -> None:
    code = """[
        {p.distribution: p.error for p in registry.plugins()},
        list(registry.catalogue("backbone")),
        trouble(registry.create, "backbone", "quat/small"),
        registry.create("backbone", "free/bird"),
        registry.create("backbone", "copy/own"),
    ]"""
    (found, names, words, *others), _ = ask(code, site, only="vjepa-distill-quat,copy")
    for text in (found["vjepa-distill-quat"], found["vjepa-distill-copy"], words):
        assert "vjepa-distill-quat 1.2" in text
        assert "vjepa-distill-copy 2.0" in text
        assert "VJEPA_DISTILL_LOAD_PLUGINS" in text
    assert "quat/small" not in names
    assert others == [["bird", 1], ["small", 4, 1]], "a name in dispute costs nobody the other names"


def test_a_builtin_keeps_its_name_from_a_thief(site: Path) -> None:
    code = "[registry.resolve('backbone', name)[0].distribution for name in ('vjepa/tiny', 'timm/mine')]"
    assert ask(code, site, only="thief,squatter")[0] == ["vjepa-distill", "vjepa-distill"]


def test_strict_turns_a_broken_plugin_into_an_error(site: Path) -> None:
    for only, expected in {"torn": "a_library_that_is_not_there", "twin": ""}.items():
        code = "str(trouble(registry.catalogue, 'backbone'))"
        selection = f"vjepa-distill-{only}"
        answer, _ = ask(code, site, selection, VJEPA_DISTILL_STRICT_PLUGINS="1")
        assert str(answer).startswith("UserError") == bool(expected)
        assert expected in answer


def test_the_environment_restricts_what_is_even_imported(site: Path) -> None:
    code = "[[p.name for p in registry.plugins()], 'vjepa_distill_quitter' in __import__('sys').modules]"
    assert ask(code, site, only="") == ([["builtin"], False], "")
    assert ask(code, site, only="vjepa-distill-twin") == ([["builtin", "quat"], False], "")
    words, _ = ask("trouble(registry.plugins)", site, only="misspel")
    assert "'misspel'" in words
    assert "Did you mean misspelt" in words


def test_only_rank_0_warns_and_only_where_nobody_is_handed_the_reasons(site: Path) -> None:
    code = "list(registry.catalogue('objective')) and list(registry.catalogue('decoder')) and 0"
    assert ask(code, site, only="torn", RANK="0")[1].count("is broken") == 1
    assert ask(code, site, only="torn", RANK="3") == (0, "")
    assert ask("len(registry.plugins())", site, only="torn", RANK="0") == (2, "")


@pytest.mark.parametrize(
    ("only", "name", "parts"),
    [
        ("quat", "quat/smal", ["there is no backbone 'quat/smal'", "Did you mean quat/small", "Known:"]),
        ("quat", "fre/bird", ["Did you mean free/bird"]),
        ("quat", "free/*", ["is a family", "name of a model"]),
        ("torn", "torn/small", ["broken", "vjepa-distill-torn 1.0", "a_library_that_is_not_there"]),
        ("torn", "vjepa/tini", ["Did you mean vjepa/tiny", "Broken plugins, which may have had it: torn"]),
        ("newer", "newer/small", ["API 2"]),
        ("", "quat/small", ["'quat'", "left out by VJEPA_DISTILL_LOAD_PLUGINS=''"]),
    ],
)
def test_an_unknown_name_says_what_is_near_or_who_is_to_blame(
    site: Path, only: str, name: str, parts: list[str]
) -> None:
    words, _ = ask(f"trouble(registry.resolve, 'backbone', {name!r})", site, only)
    assert str(words).startswith("UserError")
    for part in parts:
        assert part in words


def command(site: Path, *words: str, only: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """The command line in a fresh interpreter, among the plugins of ``site`` that ``only`` names."""
    env = {key: value for key, value in os.environ.items() if not key.startswith("VJEPA_DISTILL_")}
    env.update(environment, PYTHONPATH=os.pathsep.join([str(site), str(ROOT)]), COLUMNS="80")
    env["VJEPA_DISTILL_LOAD_PLUGINS"] = only
    line = [sys.executable, "-m", "vjepa_distill", *words]
    return subprocess.run(line, capture_output=True, text=True, env=env)


# An import error, a misspelt hook, and a name that two packages offer; "twin" is sound.
THREE = "torn,misspelt,copy,vjepa-distill-quat,vjepa-distill-twin"


def test_three_broken_plugins_at_once_are_listed_once_each_with_their_reasons(site: Path) -> None:
    done = command(site, "plugins", "list", "--json", only=THREE)
    assert (done.returncode, done.stderr) == (0, ""), "the list says it, and nothing else does"
    status = {row["distribution"]: row["status"] for row in json.loads(done.stdout)}
    assert status["vjepa-distill"] == status["vjepa-distill-twin"] == "ok"
    assert "a_library_that_is_not_there" in status["vjepa-distill-torn"]
    assert "unknown hook 'register_backbone'" in status["vjepa-distill-misspelt"]
    for one in ("copy", "quat"):
        assert "offered by both" in status[f"vjepa-distill-{one}"]
    table = command(site, "plugins", "list", only=THREE)
    assert (table.stdout.count("ModuleNotFoundError"), table.stderr) == (1, "")

    listed = command(site, "backbones", "list", "--json", only=THREE)
    names = {row["name"] for row in json.loads(listed.stdout)}
    assert {"vjepa/tiny", "twin/small", "copy/own", "free/*"} <= names
    assert not {"quat/small", "misspelt/small"} & names
    assert listed.stderr.count("is broken") == 4, "here it is a warning, one for each"

    strict = command(site, "plugins", "list", only=THREE, VJEPA_DISTILL_STRICT_PLUGINS="1")
    assert strict.returncode == 2
    assert "is broken" in strict.stderr
    sound = command(site, "plugins", "list", only="vjepa-distill-twin", VJEPA_DISTILL_STRICT_PLUGINS="1")
    assert sound.returncode == 0


def test_names_lost_among_three_broken_plugins_are_explained(site: Path) -> None:
    names = ("torn/small", "misspelt/small", "quat/small", "twin/small")
    code = f"[str(trouble(registry.resolve, 'backbone', name)) for name in {names}]"
    (torn, misspelt, contested, sound), _ = ask(code, site, only=THREE)
    assert "plugin 'torn' of vjepa-distill-torn 1.0, which is broken: ModuleNotFoundError" in torn
    assert "which is broken: unknown hook 'register_backbone'" in misspelt
    assert "offered by both" in contested
    assert "uninstall one of them" in contested
    assert "UserError" not in sound


def test_a_run_of_a_plugin_that_is_gone_or_broken_says_what_to_do(site: Path, tmp_path: Path) -> None:
    from vjepa_distill.runs import exports

    record = registry.provenance("backbone", "conv/small", {"width": 8})
    record |= {"name": "gone/small", "distribution": "vjepa-distill-gone", "version": "3.1", "plugin": "gone"}
    backbone = registry.create("backbone", "conv/small", width=8)
    gone = exports.export_backbone(tmp_path / "gone.safetensors", backbone, {"backbone": record})
    torn = record | {"name": "torn/small", "distribution": "vjepa-distill-torn", "version": "1.0"}
    broken = exports.export_backbone(tmp_path / "torn.safetensors", backbone, {"backbone": torn})
    load = "trouble(__import__('vjepa_distill.runs.exports').runs.exports.load_backbone, path)"
    answers, _ = ask(f"[{load} for path in {[str(gone), str(broken)]}]", site, only=THREE)
    of_gone, of_broken = map(str, answers)
    for part in ("gone/small", "vjepa-distill-gone 3.1", "pip install 'vjepa-distill-gone==3.1'"):
        assert part in of_gone
    for part in ("torn/small", "installed as 1.0, but", "a_library_that_is_not_there"):
        assert part in of_broken


def test_a_checkpoint_says_what_to_install(site: Path) -> None:
    record, _ = ask("registry.provenance('backbone', 'quat/small', {'width': 8})", site, "vjepa-distill-quat")
    assert record == {
        "kind": "backbone",
        "name": "quat/small",
        "options": {"width": 8},
        "distribution": "vjepa-distill-quat",
        "version": "1.2",
        "plugin": "quat",
    }
    ask_missing = f"registry.missing({record!r})"
    assert ask(ask_missing, site, "vjepa-distill-quat")[0] == ""
    gone, _ = ask(ask_missing, None)
    assert "not installed" in gone
    assert "pip install 'vjepa-distill-quat==1.2'" in gone
    assert "leaves out" in ask(ask_missing, site, "")[0]
    contested, _ = ask(ask_missing, site, "quat,copy")
    assert "installed as 1.2, but" in contested
    assert "vjepa-distill-copy" in contested
    other = {**record, "distribution": "vjepa-distill-other"}
    words, _ = ask(f"registry.missing({other!r})", site, "vjepa-distill-quat")
    assert "vjepa-distill-other 1.2" in words
    assert "pip install 'vjepa-distill-other==1.2'" in words
    older = {**record, "name": "quat/old", "version": "0.9"}
    assert "==0.9'" in ask(f"registry.missing({older!r})", site, "vjepa-distill-quat")[0]


def test_listing_stays_fast_and_free_of_torch(site: Path) -> None:
    """CPU seconds: 0.06, 0.07 with all plugins of this file; torch alone takes some."""
    program = (
        "import sys, time; start = time.process_time()\n"
        "from vjepa_distill import registry\n"
        "for kind in registry.KINDS: registry.catalogue(kind)\n"
        "registry.plugins()\n"
        "print(time.process_time() - start, *sorted({'torch', 'timm', 'numpy', 'av'} & set(sys.modules)))"
    )
    env = os.environ | {"PYTHONPATH": os.pathsep.join([str(site), str(ROOT)])}
    best = 9.0
    for _ in range(3):
        done = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, env=env, check=True
        )
        seconds, *heavy = done.stdout.split()
        assert heavy == []
        best = min(best, float(seconds))
    assert best < 0.5


@pytest.fixture
def model_file(tmp_path: Path) -> Path:
    path = tmp_path / "my_model.py"
    path.write_text("class Net:\n    def __init__(self, width: int = 3):\n        self.width = width\n")
    return path


def test_a_file_stands_in_for_a_name(model_file: Path) -> None:
    name = f"{model_file}:Net"
    net = registry.create("backbone", name, width=7)
    assert net.width == 7
    assert type(net) is type(registry.create("backbone", name)), "the file ran once"
    assert copy.deepcopy(net).width == pickle.loads(pickle.dumps(net)).width == 7
    record = registry.provenance("backbone", name, {"width": 7, "weights": Path("a") / "b"})
    assert record["options"] == {"width": 7, "weights": str(Path("a") / "b")}
    assert record["version"].startswith("sha256:")
    assert registry.missing(record) == ""
    model_file.unlink()
    assert "there is no file" in registry.missing(record)


def test_a_file_that_cannot_give_the_class_is_refused_with_words(model_file: Path) -> None:
    for name, words in {
        "nowhere.py:Net": "there is no file nowhere.py",
        f"{model_file}:Nett": "has no 'Nett'",
    }.items():
        with pytest.raises(UserError, match=words):
            registry.create("backbone", name)


def test_options_are_checked_against_the_factory(model_file: Path) -> None:
    name = f"{model_file}:Net"
    registry.check_options("backbone", name, {"width": 1})
    with pytest.raises(UserError, match=r"no option 'widht'; options: width\. Did you mean width\?"):
        registry.check_options("backbone", name, {"widht": 1})
    model_file.write_text("def strict(a, b, *, c=1): ...\ndef family(model, a): ...\ndef any(**rest): ...\n")
    lookup._run_file.cache_clear()
    with pytest.raises(UserError, match="missing a required argument: 'b'"):
        registry.create("backbone", f"{model_file}:strict", a=1)
    registry.check_options("backbone", f"{model_file}:strict", {})
    registry.check_options("backbone", f"{model_file}:any", {"whatever": 1})
    for name, brought in (("any", "whatever"), ("strict", "c")):  # what is brought is nobody's to give
        with pytest.raises(UserError, match=f"has no option '{brought}'; options: (none|a, b)"):
            registry.check_options("backbone", f"{model_file}:{name}", {brought: 1}, brought=[brought])


def test_a_family_binds_its_model_and_takes_no_second_one(site: Path) -> None:
    words, _ = ask("trouble(registry.create, 'backbone', 'free/bird', model='x')", site, "vjepa-distill-quat")
    assert "has no option 'model'; options: depth" in words
    bound, _ = ask("registry.resolve('backbone', 'free/bird')[1]", site, "vjepa-distill-quat")
    assert bound == {"model": "bird"}


def test_a_family_lists_its_models_if_its_plugin_says_how(site: Path) -> None:
    code = "[registry.models('free/*'), 'quat_model' in __import__('sys').modules]"
    assert ask(code, site, "vjepa-distill-quat")[0] == [["wren", "dove"], True]
    listed = command(site, "backbones", "list", "free/d", "--json", only="vjepa-distill-quat")
    assert [(r["name"], r["version"]) for r in json.loads(listed.stdout)] == [("free/dove", "1.2")]
    unknown = command(site, "backbones", "list", "free/wrem", only="vjepa-distill-quat")
    assert unknown.returncode == 2
    assert "Did you mean free/wren" in unknown.stderr


def test_options_that_a_file_cannot_hold_are_refused() -> None:
    with pytest.raises(UserError, match="plain values"):
        registry.provenance("backbone", "vjepa/tiny", {"depth": object()})


@pytest.mark.parametrize(
    ("kind", "name", "target", "words"),
    [
        ("backbone", "two words/x", "m:f", "expected family/model"),
        ("backbone", "a/b/c", "m:f", "expected family/model"),
        ("backbone", "*/x", "m:f", "expected family/model"),
        ("objective", "file.py:Now", "m:f", "expected family/model"),
        ("objective", "now", "module.without.attribute", "'package.module:attribute'"),
        ("decoder", "pyav", None, "expected a callable"),
    ],
)
def test_a_name_or_target_that_cannot_work_is_refused(kind: str, name: str, target: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        check_form(Offer(kind, name, target, "", "some-package", "1.0", "some", 1))


@pytest.mark.parametrize(
    ("name", "models", "words"),
    [
        ("a/*", "no colon", "models 'no colon'.*'package.module:attribute'"),
        ("a/b", "m:f", "which only a family"),
    ],
)
def test_a_list_of_models_that_cannot_work_is_refused(name: str, models: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        check_form(Offer("backbone", name, "m:f", "", "some-package", "1.0", "some", 1, models))


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(UserError, match="Did you mean backbone"):
        registry.catalogue("backbones")


def test_a_builtin_family_is_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Read and never run: a backbone's file may import torch, and the lists must not."""
    offers = '{"wave/*": {"target": "build", "models": "names", "summary": "waves"}}'
    (tmp_path / "wave.py").write_text(f"import nothing_that_is_there\n\nOFFERS = {offers}\n")
    (tmp_path / "parts.py").write_text("OFFER = 1\n")
    monkeypatch.setattr(builtin, "BACKBONES", tmp_path)
    found = []
    builtin.register_backbones(lambda *names, **words: found.append((names, words)))
    place = "vjepa_distill.backbones.wave"
    assert found == [
        (("wave/*", f"{place}:build"), {"summary": "waves", "models": f"{place}:names"}),
    ]


@pytest.mark.parametrize("kind", registry.KINDS)
def test_every_target_and_list_of_models_is_there(kind: str) -> None:
    for offer in registry.catalogue(kind).values():
        for target in filter(None, (offer.target, offer.models)):
            module, _, attribute = str(target).partition(":")
            assert callable(getattr(importlib.import_module(module), attribute)), offer
