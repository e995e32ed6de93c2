"""Selection by embeddings: against brute force, and what the command drops, keeps and shows."""

import contextlib
import json
import re
import shutil
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from data_preprocess.command import InputError
from labelling import select_prompts
from labelling.selecting import embedding_selection
from labelling.selecting.embedding_selection import (
    STRATEGIES,
    facility_location,
    k_center,
    k_means,
    local_density,
    nearest_similarity,
    novelty,
    select_by_embedding,
)
from labelling.selecting.embeddings import embedded, load_embedder
from labelling.selecting.languages import UNKNOWN, detector
from labelling.selecting.selection_report import distances, shares


@pytest.fixture(scope="module")
def vectors() -> np.ndarray:
    """1,200 unit vectors around 30 centres."""
    rng = np.random.default_rng(0)
    found = rng.normal(size=(30, 24))[rng.integers(30, size=1200)] + 0.6 * rng.normal(size=(1200, 24))
    return (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float32)


def test_facility_location_is_the_greedy_order(vectors):
    """By the definition, with all similarities at hand, for a pool that is one cluster."""
    part = vectors[:300]
    similarity, nearest, expected = np.maximum(part @ part.T, 0), np.zeros(300), []
    for _ in range(40):
        gains = np.maximum(similarity - nearest[:, None], 0).sum(axis=0)
        gains[expected] = -1
        expected.append(int(gains.argmax()))
        nearest = np.maximum(nearest, similarity[:, expected[-1]])
    assert facility_location(part, 40, 1) == expected
    assert sorted(facility_location(part, 300, 1)) == list(range(300))


def test_clusters_cost_facility_location_little(vectors):
    def objective(chosen):
        return np.maximum(nearest_similarity(vectors, vectors[chosen]), 0).mean()

    exact = objective(facility_location(vectors, 60, 1, cluster_size=1200))
    assert exact >= objective(facility_location(vectors, 60, 1, cluster_size=100)) >= 0.97 * exact
    assert objective(select_by_embedding(vectors, 60, "random")) < 0.97 * exact


@pytest.mark.parametrize("farthest", [1, 16, 4096])
def test_k_center_is_the_farthest_first_order(vectors, monkeypatch, farthest):
    monkeypatch.setattr(embedding_selection, "FARTHEST", farthest)
    similarity, expected = vectors @ vectors[0], [0]
    for _ in range(149):
        similarity[expected] = np.inf
        expected.append(int(similarity.argmin()))
        similarity = np.maximum(similarity, vectors @ vectors[expected[-1]])
    assert k_center(vectors, 150, 1) == expected


def test_novelty_is_the_greedy_order_of_its_definition(vectors):
    """Distance, rank of nearness and density of the 10 nearest selected ones, in a slow loop; all are candidates."""
    part = vectors[:120]
    weight = np.sqrt(local_density(part, np.zeros(120, dtype=int)))
    similarity = part @ part.T
    distance = np.sqrt(np.maximum(2 - 2 * similarity, 0))
    nearest = np.sort(distance, axis=1)[:, :11].sum(axis=1)  # the first is its own, 0
    assert weight**2 == pytest.approx(1 / nearest, rel=1e-2)
    chosen = [int(weight.argmax())]
    while len(chosen) < 30:
        scores = []
        for one in range(120):
            order = sorted(chosen, key=lambda other: distance[one, other])[:10]
            scores.append(sum(distance[one, other] * weight[other] / rank for rank, other in enumerate(order, start=1)))
        scores = [-1 if one in chosen else score for one, score in enumerate(scores)]
        chosen.append(int(np.argmax(scores)))
    assert novelty(part, 30, 1) == chosen


def test_density_is_of_the_nearest_other_prompts(vectors):
    """A prompt's distance to itself is 0: as a root of rounding errors it made novelty depend on the threads."""
    exact = vectors[:400].astype(np.float64)
    distances = np.linalg.norm(exact[:, None] - exact, axis=2)
    expected = 1 / np.sort(distances, axis=1)[:, 1 : embedding_selection.NEAREST + 1].sum(axis=1)
    found = local_density(vectors[:400], np.zeros(400, dtype=int))
    assert found == pytest.approx(expected, rel=3e-6)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_every_strategy_selects_each_prompt_once_and_the_same_again(vectors, strategy):
    for size in (0, 1, 37, 120):
        chosen = select_by_embedding(vectors[:1000], size, strategy)
        assert len(set(chosen)) == len(chosen) == size and chosen == select_by_embedding(vectors[:1000], size, strategy)
    copies = np.repeat(vectors[:3], 4, axis=0)
    assert sorted(select_by_embedding(copies, 12, strategy)) == list(range(12))
    with pytest.raises(ValueError, match="expected 0 to 3"):
        select_by_embedding(vectors[:3], 4, strategy)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_groups_keep_their_shares(vectors, strategy):
    groups = ["a"] * 700 + ["b"] * 300
    chosen = select_by_embedding(vectors[:1000], 50, strategy, groups)
    assert sum(groups[index] == "a" for index in chosen) == 35 and len(set(chosen)) == 50


def test_k_means_finds_clusters_that_lie_apart():
    centres = np.eye(8, dtype=np.float32)
    found = k_means(np.repeat(centres, 50, axis=0) + 0.01, 8)
    assert [len(set(found[start : start + 50].tolist())) for start in range(0, 400, 50)] == [1] * 8
    assert k_means(centres, 1).tolist() == [0] * 8


# --- embeddings


def static_folder(folder, byte_tokenizer):
    from safetensors.numpy import save_file

    folder.mkdir()
    byte_tokenizer.backend_tokenizer.save(str(folder / "tokenizer.json"))
    save_file(
        {"embeddings": np.random.default_rng(0).normal(size=(400, 8)).astype(np.float32)}, folder / "model.safetensors"
    )
    return folder


def test_static_embeddings_are_means_of_token_vectors(tmp_path, byte_tokenizer):
    from safetensors.numpy import load_file

    folder = static_folder(tmp_path / "static", byte_tokenizer)
    table = load_file(folder / "model.safetensors")["embeddings"]
    mean = table[byte_tokenizer.encode("whales sing", add_special_tokens=False)].mean(axis=0)
    found = embedded(["whales sing", ""], str(folder))
    assert found[0] == pytest.approx(mean / np.linalg.norm(mean), abs=1e-6) and not found[1].any()


def test_static_embeddings_do_not_depend_on_the_texts_beside(tmp_path, byte_tokenizer):
    """A tokenizer.json may say that texts are padded and cut."""
    folder = static_folder(tmp_path / "static", byte_tokenizer)
    plain = embedded(["hi", "hello there, my friend"], str(folder))
    own = json.loads((folder / "tokenizer.json").read_text())
    padding = {"strategy": "BatchLongest", "direction": "Right", "pad_to_multiple_of": None, "pad_id": 2,
               "pad_type_id": 0, "pad_token": "<pad>"}  # fmt: skip
    cut = {"direction": "Right", "max_length": 4, "strategy": "LongestFirst", "stride": 0}
    (folder / "tokenizer.json").write_text(json.dumps({**own, "padding": padding, "truncation": cut}))
    assert (embedded(["hi", "hello there, my friend"], str(folder)) == plain).all()


def test_vectors_that_are_not_finite_are_refused(tmp_path, byte_tokenizer):
    from safetensors.numpy import save_file

    folder = static_folder(tmp_path / "static", byte_tokenizer)
    save_file({"embeddings": np.full((400, 8), np.nan, dtype=np.float32)}, folder / "model.safetensors")
    with pytest.raises(InputError, match="--embeddings .*static: its vectors are not finite"):
        embedded(["a"], str(folder))


def transformer_folder(folder, tiny_causal_lm_dir, pooling=None, **files):
    """A tiny transformer as sentence-transformers has laid it out since its first versions, with files of one's own."""
    shutil.copytree(tiny_causal_lm_dir("qwen2"), folder)
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling/config.json").write_text(
        json.dumps({"word_embedding_dimension": 32} | (pooling or {"pooling_mode_mean_tokens": True}))
    )
    kinds = {"Transformer": "", "Pooling": "1_Pooling"}
    modules = [
        {"idx": idx, "name": str(idx), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for idx, (kind, path) in enumerate(kinds.items())
    ]
    for name, content in {"modules": modules, **files}.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    return folder


@pytest.mark.parametrize("content", ["[1]", "{", '{"word_embedding_dimension": 32, "pooling_mode": "best"}'])
def test_a_folder_that_the_library_cannot_load_is_one_line(tmp_path, tiny_causal_lm_dir, content):
    folder = transformer_folder(tmp_path / "model", tiny_causal_lm_dir)
    (folder / "1_Pooling/config.json").write_text(content)
    with pytest.raises(InputError, match=r"--embeddings .*model: cannot be loaded \(") as caught:
        embedded(["a"], str(folder))
    assert "\n" not in str(caught.value)


def test_modules_of_others_are_not_run(tmp_path, tiny_causal_lm_dir):
    """Before version 6 the library ran code of a local folder; a model among the modules may ask for that still."""
    folder = transformer_folder(tmp_path / "model", tiny_causal_lm_dir)
    (folder / "2_Whole").mkdir()
    (folder / "2_Whole/sentence_bert_config.json").write_text('{"trust_remote_code": true}')
    whole = "sentence_transformers.SentenceTransformer"
    (folder / "mine.py").write_text(f"open({str(tmp_path / 'run')!r}, 'w')\n\nclass Mine:\n    pass\n")
    own = json.loads((folder / "modules.json").read_text())
    for modules, found in (
        ([*own, {"idx": 2, "name": "2", "path": "", "type": "mine.Mine"}], "mine.Mine"),
        ([*own, {"idx": 2, "name": "2", "path": "2_Whole", "type": whole}], whole),
        ([*own, {"idx": 2, "name": "2", "path": "", "type": "sentence_transformers.models.Router"}], ".*Router"),
        ([], "none"),
        ({"a": 1}, "none"),
    ):
        (folder / "modules.json").write_text(json.dumps(modules))
        with pytest.raises(InputError, match=f"modules.json: modules are {found} .expected sentence-trans"):
            embedded(["a"], str(folder))
    assert not (tmp_path / "run").exists()


def test_an_activation_of_others_is_refused(tmp_path, tiny_causal_lm_dir):
    """The library takes another, and only warns."""
    folder = transformer_folder(tmp_path / "model", tiny_causal_lm_dir)
    (folder / "2_Dense").mkdir()
    dense = {"in_features": 32, "out_features": 5, "bias": True, "activation_function": "mine.Act"}
    (folder / "2_Dense/config.json").write_text(json.dumps(dense))
    own = json.loads((folder / "modules.json").read_text())
    own.append({"idx": 2, "name": "2", "path": "2_Dense", "type": "sentence_transformers.models.Dense"})
    (folder / "modules.json").write_text(json.dumps(own))
    with pytest.raises(InputError, match="2_Dense/config.json: activation_function mine.Act .expected one of torch"):
        embedded(["a"], str(folder))


def test_code_that_a_configuration_names_is_not_run(tmp_path, tiny_causal_lm_dir):
    """config.json's auto_map, an activation of one's own, and files that ask for trust."""
    trusting = {"trust_remote_code": True, "model_args": {"trust_remote_code": True}}
    folder = transformer_folder(tmp_path / "model", tiny_causal_lm_dir, sentence_bert_config=trusting)
    (folder / "mine.py").write_text(f"open({str(tmp_path / 'run')!r}, 'w')\n")
    config = json.loads((folder / "config.json").read_text())
    auto = {"AutoConfig": "mine.Config", "AutoModel": "mine.Model"}
    (folder / "config.json").write_text(json.dumps({**config, "auto_map": auto}))
    with contextlib.suppress(InputError):
        embedded(["a"], str(folder))
    assert not (tmp_path / "run").exists()


def test_the_library_is_named_where_it_is_not_installed(tmp_path, tiny_causal_lm_dir, monkeypatch):
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(InputError, match="needs sentence-transformers, which is not installed .pip install -r labell"):
        embedded(["a"], str(transformer_folder(tmp_path / "model", tiny_causal_lm_dir)))


def test_a_transformer_with_fewer_embeddings_than_ids_is_refused(tmp_path, tiny_causal_lm_dir):
    from transformers import AutoModel

    folder = transformer_folder(tmp_path / "model", tiny_causal_lm_dir)
    model = AutoModel.from_pretrained(folder)
    model.resize_token_embeddings(50)
    model.save_pretrained(folder)
    with pytest.raises(InputError, match=r"--embeddings .*model: fails on a text \(IndexError"):
        embedded(["Tell me about whales."], str(folder))


@pytest.mark.parametrize("side", ["left", "right", None])
def test_a_transformer_s_vectors_do_not_depend_on_the_texts_beside(tmp_path, tiny_causal_lm_dir, side):
    """Whichever side the tokenizer pads on, and where it has no padding token."""
    from transformers import AutoTokenizer

    folder = transformer_folder(tmp_path / "model", tiny_causal_lm_dir)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.padding_side = side or "right"
    tokenizer.pad_token = tokenizer.pad_token if side else None
    tokenizer.save_pretrained(folder)
    [alone], [beside, _] = (embedded(texts, str(folder)) for texts in (["no"], ["no", "Tell me about whales."]))
    assert beside == pytest.approx(alone, abs=1e-5)


def states_of(folder, text, **options):
    import torch
    from transformers import AutoModel, AutoTokenizer

    model, tokenizer = AutoModel.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    with torch.no_grad():
        return model(**tokenizer(text, return_tensors="pt", **options)).last_hidden_state[0].numpy()


def unit(vector):
    return vector / np.linalg.norm(vector)


POOLED = {
    "cls": lambda states: states[0],
    "mean": lambda states: states.mean(axis=0),
    "max": lambda states: states.max(axis=0),
    "lasttoken": lambda states: states[-1],
}


@pytest.mark.parametrize("by", POOLED)
@pytest.mark.parametrize("is_new", [False, True])
def test_transformers_are_pooled(tmp_path, tiny_causal_lm_dir, by, is_new):
    """Over a text's own tokens, whatever the padding; also in the form of before sentence-transformers 5.4."""
    names = {"mean": "mean_tokens", "cls": "cls_token", "max": "max_tokens", "lasttoken": "lasttoken"}
    old = {f"pooling_mode_{name}": way == by for way, name in names.items()}
    folder = transformer_folder(tmp_path / "model", tiny_causal_lm_dir, {"pooling_mode": by} if is_new else old)
    texts = ["Tell me about whales.", "no"]
    for text, vector in zip(texts, embedded(texts, str(folder)), strict=True):
        assert vector == pytest.approx(unit(POOLED[by](states_of(folder, text))), abs=1e-5)


def test_a_transformer_alone_gets_the_mean(tmp_path, tiny_causal_lm_dir):
    folder = tiny_causal_lm_dir("qwen2")
    [vector] = embedded(["no"], str(folder))
    assert vector == pytest.approx(unit(states_of(folder, "no").mean(axis=0)), abs=1e-5)


def test_a_model_s_own_modules_prompt_and_limit_are_followed(tmp_path, tiny_causal_lm_dir):
    """Saved by the library itself: a dense layer after the pooling, a text before each text, six tokens at most."""
    import torch
    from sentence_transformers import SentenceTransformer, models

    plain = tiny_causal_lm_dir("qwen2")
    parts = [models.Transformer(str(plain), max_seq_length=6), models.Pooling(32, "mean"), models.Dense(32, 5)]
    made = SentenceTransformer(modules=parts, device="cpu", prompts={"query": "Q: "}, default_prompt_name="query")
    made.save(str(tmp_path / "made"))
    layer = parts[2].linear
    mean = torch.tensor(states_of(plain, "Q: Tell me about whales", truncation=True, max_length=6).mean(axis=0))
    expected = torch.tanh(layer.weight @ mean + layer.bias).detach().numpy()
    assert embedded(["Tell me about whales"], str(tmp_path / "made"))[0] == pytest.approx(unit(expected), abs=1e-5)


def test_an_encoder_decoder_embeds_by_its_encoder(tmp_path, byte_tokenizer):
    import torch
    from transformers import T5Config, T5EncoderModel, T5ForConditionalGeneration

    config = T5Config(vocab_size=400, d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2)
    T5ForConditionalGeneration(config).save_pretrained(tmp_path)
    byte_tokenizer.save_pretrained(tmp_path)
    with torch.no_grad():
        ids = torch.tensor([byte_tokenizer("whales")["input_ids"]])
        states = T5EncoderModel.from_pretrained(tmp_path).eval()(ids).last_hidden_state[0].numpy()
    assert embedded(["whales"], str(tmp_path))[0] == pytest.approx(unit(states.mean(axis=0)), abs=1e-5)


@pytest.mark.parametrize("name, keeps_unknown", [("embeddings", False), ("embedding.weight", True)])
def test_a_static_model_s_mapping_weights_and_unknown_tokens(tmp_path, name, keeps_unknown):
    """As model2vec writes it: the mean of weight x table[mapping] over known tokens. Else an unknown token counts."""
    from safetensors.numpy import save_file
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = {"[UNK]": 0, "red": 1, "plum": 2, "sea": 3}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    table, mapping = np.array([[1, 0], [0, 1], [1, 3]], np.float32), np.array([2, 0, 1, 1])
    weights = np.array([5, 1, 2, 3], np.float32)
    tables = {"mapping": mapping, "weights": weights} if name == "embeddings" else {}
    table = table if tables else table[[2, 0, 1, 1]]
    save_file({name: table, **tables}, tmp_path / "model.safetensors")
    own = (
        {"red": [1, 0], "plum": [0, 2], "[UNK]": [5, 15]}
        if tables
        else {"red": [1, 0], "plum": [0, 1], "[UNK]": [1, 3]}
    )
    tokens = ["red", "plum", *(["[UNK]"] if keeps_unknown else [])]
    expected = np.mean([own[token] for token in tokens], axis=0)
    assert embedded(["red plum zebra"], str(tmp_path))[0] == pytest.approx(unit(expected), abs=1e-6)


def test_wordllama_needs_no_network_and_knows_what_is_alike():
    pytest.importorskip("wordllama")
    found = embedded(
        ["How do I cook rice?", "What is the way to boil rice?", "Who won the football game?"], "wordllama"
    )
    assert found.shape == (3, 256) and found[0] @ found[1] > found[0] @ found[2] + 0.2


def test_a_cache_is_used_and_extended(tmp_path, byte_tokenizer):
    """A pool without what was labelled needs nothing new, and one with further prompts only these."""
    folder, path = str(static_folder(tmp_path / "static", byte_tokenizer)), tmp_path / "v.npz"
    first = embedded(["a", "b", "a"], folder, path)
    before = path.read_bytes()
    for texts, places in ((["a", "b", "a"], [0, 1, 2]), (["b", "a"], [1, 0]), (["b"], [1]), ([], [])):
        assert (embedded(texts, folder, path) == first[places]).all() and path.read_bytes() == before
    with np.load(path) as saved:
        marked = dict(saved, vectors=np.roll(saved["vectors"], 1, axis=0))
    np.savez(path, **marked)  # so that what is read is told from what is embedded
    found = embedded(["c", "b", "a"], folder, path)
    assert (found[1:] == first[:2]).all() and (found[0] == embedded(["c"], folder)[0]).all()
    assert (embedded(["c", "b", "a"], folder, path) == found).all()
    copy = static_folder(tmp_path / "other", byte_tokenizer)  # the same model at another place
    assert (embedded(["c", "b", "a"], str(copy), path) == found).all()


def test_a_cache_that_does_not_fit_is_refused(tmp_path, byte_tokenizer):
    from safetensors.numpy import save_file

    folder, path = static_folder(tmp_path / "static", byte_tokenizer), tmp_path / "v.npz"
    embedded(["a", "b"], str(folder), path)
    whole = dict(np.load(path))
    other = static_folder(tmp_path / "other", byte_tokenizer)
    save_file({"embeddings": np.ones((400, 8), dtype=np.float32)}, other / "model.safetensors")  # trained further
    with pytest.raises(InputError, match=r"v.npz: made by another model .expected .*other; delete it"):
        embedded(["a", "b"], str(other), path)
    np.savez(path, **{**whole, "vectors": np.zeros((2, 5))})
    with pytest.raises(InputError, match="v.npz: holds 2 x 5 numbers .expected 8 columns"):
        embedded(["a", "b"], str(folder), path)
    no_key = {name: array for name, array in whole.items() if name != "keys"}
    cut = {**whole, "vectors": whole["vectors"][:1]}
    for damaged in (no_key, cut, {**whole, "vectors": whole["vectors"] * np.nan}, {**whole, "keys": np.ones((2, 16))}):
        np.savez(path, **damaged)
        with pytest.raises(InputError, match="v.npz: not a file of embeddings"):
            embedded(["a", "b"], str(folder), path)
    path.write_bytes(b"PK")
    with pytest.raises(InputError, match="v.npz: not a file of embeddings"):
        embedded(["a", "b"], str(folder), path)


def test_folders_without_an_embedding_model_are_refused(tmp_path):
    with pytest.raises(InputError, match="no such folder .expected wordllama"):
        load_embedder(str(tmp_path / "none"))
    with pytest.raises(InputError, match="holds no tokenizer.json"):
        load_embedder(str(tmp_path))


def test_languages_of_real_questions():
    """Where a guess is not sure, the language is unknown: no English question of the example is taken for another's."""
    pytest.importorskip("py3langid")
    detect, codes = detector()
    path = Path(__file__).resolve().parents[1] / "data_preprocess" / "example" / "rankings.jsonl"
    found = Counter(detect(json.loads(line)["prompt"]) for line in path.open(encoding="utf-8"))
    assert set(found) <= {"en", UNKNOWN} and found["en"] > 200
    for text, code in ((GERMAN, "de"), ("日本の首都はどこですか?", "ja"), ("hi", UNKNOWN)):
        assert detect(text) == code and code in {*codes, UNKNOWN}


# --- the command and its page

GERMAN = "Wie heißt die Hauptstadt von Frankreich, und warum ist sie so berühmt?"
BAD = "<script>alert(1)</script> What is amber made of, and where do people find it?"


def pool_file(tmp_path):
    import random

    rng = random.Random(0)
    words = [f"{a}{b}" for a in ("ri", "mo", "ta", "lu", "se") for b in ("ver", "ton", "las", "min", "rok")]
    texts = [f"What is {' '.join(rng.sample(words, 6))} and where is it?" for _ in range(30)]
    rows = [{"prompt": text, "topic": "ab"[i % 3 == 0], "id": f"p{i}"} for i, text in enumerate([*texts, GERMAN, BAD])]
    rows += [{"prompt": texts[0], "topic": "a"}, {"prompt": texts[1] + " Why?", "topic": "a"}]
    path = tmp_path / "pool.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_the_command_drops_selects_and_reports(tmp_path, byte_tokenizer, capsys):
    pytest.importorskip("py3langid")
    model = static_folder(tmp_path / "static", byte_tokenizer)
    flags = [
        "--size",
        "12",
        "--languages",
        "en",
        "--quota",
        "topic",
        "--embeddings",
        str(model),
        "--max_jaccard",
        "0.6",
    ]
    outputs = ["--output", str(tmp_path / "out.jsonl"), "--report", str(tmp_path / "out.html")]
    select_prompts.main([str(pool_file(tmp_path)), *flags, *outputs])
    printed = capsys.readouterr().out
    assert "dropped: 1 exact copies of an earlier prompt" in printed
    assert "dropped: 1 near-copies of an earlier prompt (Jaccard similarity above 0.6)" in printed
    assert "dropped: 1 in another language than en" in printed
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert len(rows) == 12 and {row["id"] for row in rows} <= {f"p{i}" for i in range(32)} - {"p30"}
    assert sum(row["topic"] == "b" for row in rows) == 4  # of 31 left, 10 are: 12 x 10 / 31 = 3.9
    html = (tmp_path / "out.html").read_text()
    assert "<script" not in html and "12 of 31 prompts to label" in html and html.count("<circle") == 31
    assert "Wie heißt die Hauptstadt" in html and "mean of 5 random ones" in html
    assert re.search(r"<td>b</td><td class=\"number\">10</td><td class=\"number\">4</td>", html)


def rewarded(tmp_path):
    """Six prompts whose rewards differ by 1 to 6, half of either topic."""
    path = tmp_path / "pool.jsonl"
    rows = [{"prompt": f"Question {'abcdef'[i]} of {i}?", "responses": ["x", "y"], "scores": [i + 1, 0],
             "topic": "even" if i % 2 == 0 else "odd"} for i in range(6)]  # fmt: skip
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_preference_variance_selects_by_the_rewards_and_needs_no_embeddings(tmp_path):
    pool, output = rewarded(tmp_path), tmp_path / "out.jsonl"
    words = [str(pool), "--output", str(output), "--select", "preference_variance", "--max_jaccard", "0.9"]
    words += ["--embeddings", str(tmp_path / "none")]
    for flags, expected in (["--size", "3"], "fed"), (["--size", "4", "--quota", "topic"], "ecfd"):
        select_prompts.main([*words, *flags])
        rows = [json.loads(line) for line in output.read_text().splitlines()]
        assert [row["prompt"][0]["content"][9] for row in rows] == list(expected)
        assert all(row["completions"] == ["x", "y"] and "scores" not in row for row in rows)


def test_preference_variance_names_the_line_without_rewards(tmp_path):
    pool = rewarded(tmp_path)
    pool.write_text(pool.read_text() + '{"prompt": "And another one?", "responses": ["x", "y"]}\n')
    with pytest.raises(InputError, match=r"pool.jsonl:7: no rewards of two responses"):
        select_prompts.main([str(pool), "--output", str(tmp_path / "out.jsonl"), "--select", "preference_variance",
                             "--size", "2"])  # fmt: skip
    assert not (tmp_path / "out.jsonl").exists()


def test_preference_variance_is_of_the_scores_that_are_given(tmp_path):
    pool, output = rewarded(tmp_path), tmp_path / "out.jsonl"
    rows = [{"prompt": f"And {i}?", "responses": ["x", "y", "z"], "scores": [9, null, 0]}
            for i, null in enumerate((None, "N/A"))]  # fmt: skip
    pool.write_text(pool.read_text() + "".join(json.dumps(row) + "\n" for row in rows))
    words = [str(pool), "--output", str(output), "--select", "preference_variance", "--size", "2"]
    select_prompts.main(words)
    assert {json.loads(line)["prompt"][0]["content"] for line in output.open()} == {"And 0?", "And 1?"}


def test_what_the_report_counts(vectors):
    assert [tuple(vars(one).values()) for one in shares(["a", "b", "b"], [1])] == [("b", 2, 1), ("a", 1, 0)]
    [ours, at_random] = distances(vectors, list(range(1200)), 1)
    assert (ours.mean, ours.most) == pytest.approx((0, 0), abs=2e-3) and at_random.mean == pytest.approx(0, abs=2e-3)


def test_values_without_a_share_are_counted(tmp_path, byte_tokenizer, capsys):
    """Two of five prompts cannot have all three values."""
    pool = tmp_path / "pool.jsonl"
    texts = ["What is amber?", "Name a fruit that is red.", "Why do whales sing?", "Who was Ada?", "Boil an egg."]
    rows = [{"prompt": text, "topic": topic} for text, topic in zip(texts, "aaabc", strict=True)]
    pool.write_text("".join(json.dumps(row) + "\n" for row in rows))
    flags = [
        "--embeddings",
        str(static_folder(tmp_path / "model", byte_tokenizer)),
        "--output",
        str(tmp_path / "o.jsonl"),
    ]
    select_prompts.main([str(pool), "--size", "2", "--quota", "topic", *flags])
    chosen = Counter(json.loads(line)["topic"] for line in (tmp_path / "o.jsonl").read_text().splitlines())
    said = capsys.readouterr().out
    assert len(chosen) < 3 and f"--quota topic: {3 - len(chosen)} of 3 values have too few prompts for a share" in said
    select_prompts.main([str(pool), "--size", "5", "--quota", "topic", *flags])
    assert "--quota" not in capsys.readouterr().out


def test_topics_have_names_in_every_script_and_values_are_cut(tmp_path, byte_tokenizer):
    """A word of 3,000 letters hid the numbers beside it, and Chinese clusters had no name."""
    prompts = ["红烧肉怎么做", "红烧肉好吃吗", "Why do whales sing?", "x" * 3000, "Who is he?"]
    pool = tmp_path / "pool.jsonl"
    rows = [{"prompt": text, "team": f"team {index} " + "y" * 3000} for index, text in enumerate(prompts)]
    pool.write_text("".join(json.dumps(row) + "\n" for row in rows))
    folder = str(static_folder(tmp_path / "model", byte_tokenizer))
    written = ["--output", str(tmp_path / "out.jsonl"), "--report", str(tmp_path / "r.html")]
    select_prompts.main([str(pool), "--size", "2", "--embeddings", folder, *written])
    values = re.findall(r"<tr><td>(.*?)</td>", (tmp_path / "r.html").read_text())
    assert any(re.fullmatch(r"\d: (\w\w, )*烧肉", value) for value in values), values
    assert any(re.fullmatch(r"\d: sing, whales", value) for value in values), values
    assert any(re.fullmatch(r"\d", value) for value in values), values  # no word is long
    assert sum(value.startswith("team") for value in values) == 5 and max(map(len, values)) == 80


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_browser_shows_the_report(browser, tmp_path, byte_tokenizer, scheme):
    model = static_folder(tmp_path / "static", byte_tokenizer)
    outputs = ["--output", str(tmp_path / "out.jsonl"), "--report", str(tmp_path / "out.html")]
    select_prompts.main([str(pool_file(tmp_path)), "--size", "9", "--embeddings", str(model), *outputs])
    for width in (390, 1280):
        tab = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
        told, asked = [], []
        tab.on("console", lambda message, told=told: told.append(message.text))
        tab.on("request", lambda request, asked=asked: asked.append(request.url))
        tab.goto((tmp_path / "out.html").as_uri())
        assert tab.evaluate("document.documentElement.scrollWidth") == width, "the page is wider than the window"
        assert tab.locator("circle.chosen").count() == 9 and told == []
        assert {url for url in asked if not url.startswith("data:")} == {(tmp_path / "out.html").as_uri()}
        tab.close()
