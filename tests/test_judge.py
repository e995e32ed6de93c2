"""judge.py: by an LLM at a server that judges as a test says, and by a reward model."""

import json
import re
import shutil

import pytest
from fault_server import FaultServer, chat
from made_up import make_cell, make_grid
from made_up_runs import test_row, write_lines, write_texts

from data_preprocess.command import InputError, RunError
from data_preprocess.files import read_json
from eval_hh import judge, report
from eval_hh.analysis.judgements import load_judgements, summarised, validate_judgement
from eval_hh.cells import TEST_FILES, write_cell
from eval_hh.inference import endpoint
from eval_hh.inference.resumable_jobs import folder_identity
from eval_hh.judging.pairs import find_models, paired
from eval_hh.judging.rubric import load_rubric
from eval_hh.reward_model import load_reward_model

ROWS = dict.fromkeys(TEST_FILES, 3)
GOOD, BAD = "The good answer.", "A bad answer, and a longer one."
SEEDS = (42, 43, 44)


@pytest.fixture(autouse=True)
def _impatient(monkeypatch):
    monkeypatch.setattr(endpoint, "FIRST_PAUSE", 0.01)
    monkeypatch.setenv("NO_PROXY", "localhost")


def text_of(cell, file, line):
    """K=4 is good, K=2 bad; on the last line of each file they say the same."""
    return "The same." if line == 2 else f"{GOOD if cell['ranking_len'] == 4 else BAD} {cell['seed']} {file} {line}"


@pytest.fixture
def study(tmp_path):
    for seed in SEEDS:
        for ranking_len, size in ((4, 1500), (2, 3000)):
            cell = make_cell("PRO", ranking_len, size, seed, 0.4 + 0.05 * ranking_len, rows=ROWS, draw=seed)
            write_cell(tmp_path / "eval_hh" / "results" / f"{cell['exp']}_{cell['stage']}.json", cell)
            write_texts(tmp_path, cell, lambda file, line, cell=cell: text_of(cell, file, line))
    for file in TEST_FILES:
        write_lines(tmp_path / "data" / "hh_test" / f"{file}.json", [test_row(file, line) for line in range(3)])
    return tmp_path


ALL = ["pro_4_1500_4*_4", "pro_2_3000_4*_2"]
ONE = ["pro_4_1500_42_4", "pro_2_3000_42_2"]


def shown(body):
    """The two responses in a request, in the order in which the judge sees them."""
    return re.findall(r"\[Response \d\]\n(.*)\n\[End of response", body["messages"][-1]["content"])


def honest(path, body, number):
    first, _ = shown(body)
    usage = {"prompt_tokens": 100, "completion_tokens": 7}
    return chat(f"It answers.\n[[{1 if first.startswith(GOOD) else 2}]]", usage=usage)


def judged(server, pair, *flags):
    judge.main([*pair, "--endpoint", server.url, "--endpoint_model", "llm", "--name", "found", *flags])


def result(root):
    return read_json(root / "eval_hh" / "results" / "judged" / "found.json")


def test_each_pair_is_asked_in_both_orders_and_the_better_wins(study, capsys):
    with FaultServer(honest) as server:
        judged(server, ALL)
        orders = [tuple(shown(body)) for body in server.bodies]
    assert len(orders) == len(set(orders)) == 2 * 3 * 4 * 2, "both orders of 8 of 12 prompts in 3 replicates"
    assert {(b, a) for a, b in orders} == set(orders)
    one = summarised(result(study))
    # Eight wins and four ties of the twelve prompts, in every replicate.
    assert one.win_rate.difference == pytest.approx(10 / 12 - 0.5) and one.win_rate.n_replicates == 3
    assert (one.ties, one.between_orders, one.named_first, one.unread) == (pytest.approx(4 / 12), 1.0, 0.5, 0.0)
    assert result(study)["tokens"] == {"prompt": 4800, "completion": 336}
    out = capsys.readouterr().out
    assert "PRO K=4 M=1500 against PRO K=2 M=3000, judged by llm: 12 prompts, 3 replicates: new draws and seeds" in out
    assert "win rate 83.3% (67.7% to 99.0%)" in out and "tokens: 4,800 of prompts, 336 new" in out


def test_agreement_with_the_reward_by_a_slow_loop(study):
    with FaultServer(honest) as server:
        judged(server, ALL)
    same = total = 0
    for pair in result(study)["pairs"]:
        for columns in pair["files"].values():
            for preference, reward in zip(columns["preference"], columns["reward_difference"], strict=True):
                if preference != 0.5 and reward != 0:
                    total += 1
                    same += (preference > 0.5) == (reward > 0)
    assert summarised(result(study)).with_reward == pytest.approx(same / total)


def test_nothing_is_asked_twice_and_a_dry_run_asks_nothing(study, capsys):
    with FaultServer(honest) as server:
        judged(server, ALL, "--dry_run")
        assert not server.bodies and not (study / "eval_hh" / "results" / "judged").exists()
        planned = capsys.readouterr().out
        judged(server, ALL)
        [path] = (study / "eval_hh" / "results" / "judged").iterdir()
        before = path.stat().st_mtime_ns
        judged(server, ALL)
        assert len(server.bodies) == 48 and path.stat().st_mtime_ns == before
        length = sum(len(message["content"]) for body in server.bodies for message in body["messages"])
    assert "36 pairs of responses; 12 are equal" in planned and "48 requests, both orders of 24 pairs" in planned
    estimate = int(re.search(r"about ([\d,]+) prompt tokens", planned)[1].replace(",", ""))
    assert abs(estimate - length / 4) < 48 and "at most 12,288 new tokens" in planned


def test_a_judge_that_always_names_the_first_is_found_out(study, capsys):
    with FaultServer(lambda path, body, number: chat("[[1]]")) as server:
        judged(server, ALL)
    one = summarised(result(study))
    assert one.win_rate.difference == 0 and one.between_orders == 0 and one.named_first == 1
    assert "100.0% of its verdicts name the response shown first" in capsys.readouterr().out


def test_a_judge_that_answers_in_prose_gives_no_result(study):
    with FaultServer(lambda path, body, number: chat("Both have merits; [[1]] is nice, but [[2]] too.")) as server:
        with pytest.raises(RunError, match=r"llm: 48 of 48 answers hold no verdict \(expected \[\[1\]\]"):
            judged(server, ALL)
    assert not (study / "eval_hh" / "results" / "judged").exists()


def test_answers_that_nobody_gave_do_not_make_up_for_prose(study):
    """A third of the prompts have equal responses and are not asked about."""

    def answer(path, body, number):
        return honest(path, body, number) if number % 8 < 3 else chat("I would rather not say.")

    with FaultServer(answer) as server:
        with pytest.raises(RunError, match=r"llm: 30 of 48 answers hold no verdict"):
            judged(server, ALL, "--batch_size", "1")


def test_a_result_without_a_draw_is_of_the_published_one(study, monkeypatch):
    monkeypatch.setenv("STUDY_ROOT", str(study))
    path = study / "eval_hh" / "results" / f"{ONE[0]}.json"
    write_cell(path, {**read_json(path), "draw": 42})  # that of K=2 has none
    pairs = paired(*(find_models("A", wanted) for wanted in ALL))
    assert [a.replicate for a, b in pairs] == [b.replicate for a, b in pairs] == [(n, n) for n in SEEDS]


def test_one_prompt_is_refused_before_it_is_asked(study, monkeypatch):
    monkeypatch.setattr("eval_hh.judging.pairs.all_test_files", lambda: ["harmless_base"])
    with FaultServer(honest) as server:
        with pytest.raises(InputError, match=r"A, B: one pair of models and 1 prompt \(expected two prompts or more"):
            judged(server, ONE, "--prompts", "1")
        assert not server.bodies


def test_long_names_of_replicates_give_different_results():
    a, b = (",".join(f"pro_len{k}_3000_draw{n}_seed{n}_{k}" for n in range(42, 52)) for k in (4, 2))
    config = [judge.Judging(a=a, b=other, reward_model="rm").output.stem for other in (b, "data", "base")]
    assert len(set(config)) == 3 and all(len(name) <= judge.MAX_NAME for name in config)


def test_some_prose_counts_as_ties_and_is_said(study, capsys):
    def answer(path, body, number):
        return chat("I would rather not say.") if number % 8 == 0 else honest(path, body, number)

    with FaultServer(answer) as server:
        judged(server, ALL, "--batch_size", "1")
    one = summarised(result(study))
    assert one.unread == pytest.approx(6 / 72)
    assert "8.3% of its answers hold no verdict and count as ties" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("answer", "verdict"),
    [("[[1]]", 1.0), ("Because.\n\n [[2]] \n", 0.0), ("x\n[[tie]]", 0.5), ("", None), ("[[1]] it is", None),
     ("1", None), ("[[3]]", None), ("[[1]]\n[[2]]", None), ("[[1]] or [[1]]\n[[1]]", None), ("[[Tie]]", None)],
)  # fmt: skip
def test_verdicts_are_read_strictly(answer, verdict):
    assert load_rubric().verdict(answer) == verdict


def test_a_response_that_holds_places_or_marks_is_only_text():
    messages = load_rubric().messages(["<|prompter|>{first}", "<|assistant|>"], "{second} [[1]]", "b")
    content = messages[-1]["content"]
    assert "Human: {first}" in content and "{second} [[1]]" in content and content.count("\nb\n") == 1


def test_one_pair_is_over_prompts(study, capsys):
    with FaultServer(honest) as server:
        judged(server, ONE, "--prompts", "2")
        assert len(result(study)["pairs"][0]["files"]["harmless_base"]["row_id"]) == 2
    assert "8 prompts, new prompts, these two models" in capsys.readouterr().out


def test_a_model_against_the_data_s_responses(study):
    with FaultServer(honest) as server:
        judged(server, [ONE[0], "data"])
    found = result(study)
    assert found["pairs"][0]["files"]["harmless_base"]["reward_difference"] is None
    assert found["b"] == "the test data's first responses"


def test_a_reward_model_judges_by_its_scores(study, tiny_reward_dir, capsys):
    flags = [*ALL, "--reward_model", str(tiny_reward_dir), "--name", "found"]
    judge.main(flags)
    model = load_reward_model(tiny_reward_dir)
    for pair in result(study)["pairs"]:
        for file, columns in pair["files"].items():
            turns = [test_row(file, line)["prefix"][0] for line in range(3)]
            a, b = (
                model.score(turns, [text_of({"ranking_len": k, "seed": pair["seed"]}, file, line) for line in range(3)])
                for k in (4, 2)
            )
            assert columns["preference"] == [0.5 if x == y else float(x > y) for x, y in zip(a, b, strict=True)]
            assert columns["a_first"] is None
    assert "agrees in both orders" not in capsys.readouterr().out


def note_scores(study, reward_model):
    """Notes that the recorded scores are of this model; returns their files."""
    settings = {"reward_model": folder_identity(reward_model), "mixed_precision": "no"}
    paths = list((study / "eval_hh" / "inference_res").glob("infer_main_*.json"))
    for path in paths:
        note = {"fingerprint": "x", "settings": settings}
        path.with_name(path.name + ".done.json").write_text(json.dumps(note))
    return paths


def test_scores_that_are_rounded_to_one_are_not_used(study, tiny_reward_dir):
    """The sigmoid of 40 and of 50 is 1: no tie where the logits differ."""
    flags, found = [*ALL, "--reward_model", str(tiny_reward_dir), "--name", "found"], []
    judge.main(flags)
    found.append(result(study)["pairs"])
    shutil.rmtree(study / "eval_hh" / "inference_res" / "judged")
    for path in note_scores(study, tiny_reward_dir):
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        write_lines(path, [row | {"infer": row["infer"] | {"score": 1.0}} for row in rows])
    judge.main(flags)
    found.append(result(study)["pairs"])
    assert found[0] == found[1] and 1.0 in found[0][0]["files"]["harmless_base"]["preference"]


def test_scores_that_are_there_are_used(study, tiny_reward_dir, monkeypatch):
    note_scores(study, tiny_reward_dir)
    monkeypatch.setattr("eval_hh.reward_model.load_reward_model", None)
    judge.main([*ALL, "--reward_model", str(tiny_reward_dir), "--name", "found"])
    columns = result(study)["pairs"][0]["files"]["harmless_base"]
    assert columns["preference"] == [float(x > 0) + 0.5 * (x == 0) for x in columns["reward_difference"]]


def test_the_report_shows_it_escaped(study, capsys):
    for cell in make_grid(lambda _, k, *more: 0.4 + 0.05 * k, seeds=SEEDS, draws=True, rows=ROWS):
        write_cell(study / "eval_hh" / "results" / f"{cell['exp']}_{cell['stage']}.json", cell)
    with FaultServer(honest) as server:
        judge.main([*ALL, "--endpoint", server.url, "--endpoint_model", "<script>*llm*", "--name", "found"])
    report.main([])
    text = (study / "runs" / "report" / "report.md").read_text()
    row = next(line for line in text.splitlines() if line.startswith("| &#60;script"))
    assert "<script>" not in text and "&#60;script&#62;&#42;llm&#42;" in row and "(ours-1)" in row
    assert "| 83.3% " in row and "3 replicates: new draws and seeds, these prompts" in row
    capsys.readouterr()
    report.main(["--json"])
    assert json.loads(capsys.readouterr().out)["judged"][0]["win_rate"]["difference"] == pytest.approx(1 / 3)


def test_damaged_judgements_are_named_and_left_out(study):
    with FaultServer(honest) as server:
        judged(server, ONE)
    folder, good = study / "eval_hh" / "results", result(study)
    assert len(load_judgements(folder, "abc", [])) == 1

    def columns(it):
        return it["pairs"][0]["files"]["helpful_base"]

    def of_prompts(it, count):
        return {"a": {name: values and values[:count] for name, values in columns(it).items()}}

    changes = {
        "schema: expected 1": lambda it: it.update(schema=2),
        "pairs: none": lambda it: it.update(pairs=[]),
        "judge.kind: missing": lambda it: it["judge"].pop("kind"),
        "preference: 2 values for 3": lambda it: columns(it)["preference"].pop(),
        "a_first: expected numbers from 0 to 1": lambda it: columns(it).update(a_first=[2] * 3),
        "length_difference: expected finite": lambda it: columns(it).update(length_difference=[None] * 3),
        "pairs[1]: draw 42 and seed 42 occur twice": lambda it: it.update(
            pairs=[{**it["pairs"][0], "draw": 42, "seed": 42}] * 2
        ),
        "reward_difference: expected finite": lambda it: columns(it).update(reward_difference=[10**400] * 3),
        "files: 0 prompts (expected at least 2)": lambda it: it["pairs"][0].update(files=of_prompts(it, 0)),
        "files: 1 prompts (expected at least 2)": lambda it: it["pairs"][0].update(files=of_prompts(it, 1)),
        "files: 0 prompts (expected at least 1)": lambda it: it.update(
            pairs=[it["pairs"][0] | {"files": of_prompts(it, n)} for n in (1, 0)]
        ),
        "world: xyz": lambda it: it.update(world="xyz"),
    }
    for message, change in changes.items():
        found = json.loads(json.dumps(good))
        change(found)
        (folder / "judged" / "found.json").write_text(json.dumps(found))
        warnings = []
        assert load_judgements(folder, "abc", warnings) == [] and message in warnings[0], message
    validate_judgement(good, "x")


def test_names_that_do_not_fit_are_refused(study):
    flags = ["--reward_model", "x"]
    for pair, message in {
        ("nope", ONE[1]): "A 'nope': no such result in .*expected data, or the name of a result file",
        (ONE[0], ONE[0]): "are the same model",
        (f"{ONE[0]},{ONE[1]}", ONE[1]): "A .*: matches several settings",
        ("data", "data"): "are the same model",
    }.items():
        with pytest.raises(InputError, match=message):
            judge.main([*pair, *flags])
    with pytest.raises(InputError, match="--reward_model or --endpoint: give one"):
        judge.main(ONE)
    with pytest.raises(InputError, match="have no replicate"):
        judge.main(["pro_4_1500_42_4,pro_4_1500_43_4", "pro_2_3000_44_2", *flags])


def test_texts_of_another_evaluation_are_refused(study):
    path = study / "eval_hh" / "inference_res" / "infer_main_pro_4_1500_42_4_best_checkpoint_harmless_base.json"
    path.write_text(path.read_text().replace('"bleu": ', '"bleu": 1'))
    with pytest.raises(InputError, match="its texts are not those of pro_4_1500_42_4.json"):
        judge.main([*ONE, "--reward_model", "x"])


def test_no_judge_s_result_replaces_another_s(study, tiny_reward_dir, tmp_path):
    """Two folders of one name, another model, another pair: each is refused before it judges."""
    first, second = (tmp_path / place / "rm" for place in "ab")
    for folder in (first, second):
        shutil.copytree(tiny_reward_dir, folder)
    judge.main([*ALL, "--reward_model", str(first)])
    (path,) = (study / "eval_hh/results/judged").iterdir()
    kept = path.read_bytes()
    judge.main([*ALL, "--reward_model", str(first)])  # the same again
    with pytest.raises(InputError, match="its judge is a/rm .expected another --name"):
        judge.main([*ALL, "--reward_model", str(second)])
    with pytest.raises(InputError, match="its judge is a/rm"):
        judge.main([*ALL, "--reward_model", str(tiny_reward_dir), "--name", path.stem])
    with pytest.raises(InputError, match=r"compares .* and .* .expected another --name"):
        judge.main([*ONE, "--reward_model", str(first), "--name", path.stem])
    assert path.read_bytes() == kept
