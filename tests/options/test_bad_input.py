"""A mistake of the user's is one line on stderr, exit status 2, and nothing on disk."""

from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import TINY

Command = Callable[..., tuple[int, str, str]]

# one mistake for each place that finds mistakes: names, types, ranges, classes, data, model, optimizer, files, Trainer
REFUSED = [
    ("--data.train_fraction 1.2", "data.train_fraction is 1.2"),
    ("--data.train_fraction half", "--data.train_fraction is 'half'; expected: a number"),
    ("--data.formula x/y --data.modulus 12", "data.modulus is 12 = 2 * 6"),
    ("--data.formula foo(x)", "data.formula has `foo(x)`"),
    ("--data.modulu 5", "did you mean --data.modulus?"),
    ("--overwrit", "did you mean --overwrite?"),
    ("--model.network.head 3", "no option of Transformer; did you mean --model.network.heads?"),
    ("--model.network.heads 3", "does not divide model.network.width 16"),
    ("--model.network Foo", "names the class 'Foo'"),
    ("--model.optimizer SGD --model.optimizer.lr -1", "Invalid learning rate"),
    ("--evaluation.threshold 2", "evaluation.threshold is 2"),
    ("--checkpoint.keep all", "expected: none, grok, last"),
    ("--trainer.precision 16-mixed", "needs a GPU"),
    ("--trainer.max_epochs 3", "use trainer.max_steps"),
    ("--trainer.accelerator warp", "--trainer"),
    ("--run ../x", "--run is '../x'"),
    ("--config addtion", "did you mean addition?"),
    ("--ckpt_path nope.ckpt", "cannot be read"),
    ("--ckpt_path", "--ckpt_path needs a value"),
    ("stray", "unexpected argument 'stray'"),
    ("--model.network.width 100000000", "GiB of weights"),
    ("--data.help=Foo", "data names the class 'Foo', which does not exist"),
]
REFUSED_TOO = [
    ("--data.train_fraction 0", "data.train_fraction is 0"),
    ("--data.train_fraction .nan", "data.train_fraction is nan"),
    ("--data.train_fraction 0.001", "leaves that split empty"),
    ("--data.val_fraction 0.7", "it can be at most 0.5"),
    ("--data.val_fraction 0.0001", "leaves that split empty"),
    ("--data.commutative_fraction 1", "it can be at most 0."),
    ("--data.pairing half --data.commutative_fraction 0.1", "it needs pairing free"),
    ("--data.pairing foo", "expected: free, together, half"),
    ("--data.modulus 1", "data.modulus is 1"),
    ("--data.formula x.real+y", "data.formula has `x.real`"),
    ("--data.formula x+q", "names 'q'"),
    ("--data.formula 9**9**9", "has the exponent `9 ** 9`"),
    ("--data.formula x+9**9**9", "has the exponent `9 ** 9`"),
    ("--data.formula x+x1+x2+x3+x4+x5+x6+x7+x8+x9", "mixes"),
    ("--data.formula x1+x2+x3+x4+x5+x6+x7+x8+x9", "11^9 = 2,357,947,691 rows, about 298.7 GiB"),
    ("--data.batch_size 0", "data.batch_size is 0; it must be from 1"),
    ("--data.batch_size half", "expected: an integer or full, paper"),
    ("--data.modul 5", "did you mean --data.modulus?"),
    ("--trainer.max_step 5", "did you mean --trainer.max_steps?"),
    ("--model.optimizer.momentum 0.9", "no option of AdamW"),
    ("--model.network.dropout 1", "model.network.dropout is 1.0"),
    ("--model.network.layers 0", "model.network.layers is 0"),
    ("--model.network torch.nn.Linear --model.network.bias true", "is no option of Linear"),
    ("--model.optimizer.lr -1", "model.optimizer.lr is -1"),
    ("--model.optimizer.lr fast", "expected: a number"),
    ("--model.optimizer.betas [1,2]", "model.optimizer.betas is [1.0, 2.0]"),
    ("--model.warmup -1", "model.warmup is -1"),
    ("--evaluation.every -1", "evaluation.every is -1"),
    ("--evaluation.stop_after -1", "evaluation.stop_after is -1"),
    ("--checkpoint.every 0", "checkpoint.every is 0"),
    ("--checkpoint.steps [0]", "checkpoint.steps is [0]"),
    ("--trainer.max_steps 0", "trainer.max_steps is 0"),
    ("--trainer.max_steps many", "expected: an integer"),
    ("--trainer.precision 8", "expected: auto, 32-true, 64-true, bf16-mixed, bf16-true, 16-mixed"),
    ("--trainer.gradient_clip_val 1", "one run's NaN"),
    ("--trainer.accumulate_grad_batches 2", "use data.batch_size"),
    ("--trainer.limit_val_batches 1", "whole splits"),
    ("--trainer.val_check_interval 5", "use evaluation.every"),
    ("--trainer.fast_dev_run true", "use a small trainer.max_steps"),
    ("--seed_everything true", "expected: an integer"),
    ("--seed_everything one", "expected: an integer"),
    ("--experiment a/b", "--experiment is 'a/b'"),
    ("--config nope", "neither a file nor a shipped config"),
    ("--ckpt_path last", "has no unfinished run"),
    ("--data.formula", "--data.formula needs a value"),
    (
        "--data PermutationDataModule",
        "--data.modulus is no option of PermutationDataModule; --data.help PermutationDataModule shows what is",
    ),
    ("--data.seeds [1]", "no option"),
    ("--model.vocabulary 5", "no option"),
    ("--data.class_path Foo", "names the class 'Foo'"),
    ("--data.batch_size 1000000000000", "from 1 to 4,194,304"),
    ("--model.network.layers 100000000", "GiB of weights"),
    ("--model.optimizer SparseAdam", "dense gradients"),
    ("--model.optimizer.betas [0.9]", "expected: a list of 2 numbers"),
    ("--model.network.dropout_on [head]", "expected: a list of input, pattern, attention, hidden, feedforward\n"),
    ("--trainer.max_time 00:00:00:01", "use trainer.max_steps"),
    ("--trainer.accelerator tpu", "--trainer"),
    ("--trainer.default_root_dir /etc/passwd", "--trainer.default_root_dir"),
]
# on a bare base: other classes have other options
CONTRADICTIONS = [
    ("--model.network MLP --data.tokenizer characters", "MLP"),
    ("--model.filters Clip --model.filters.nrm 1", "nrm is no option of Clip; did you mean norm?"),
    ("--measures Symmetry --data.formula x+y+z", "Symmetry"),
    ("--data.train_rows 20 --data.train_fraction 0.3", "data.train_rows is 20"),
    ("--init_from nowhere.ckpt", "--init_from 'nowhere.ckpt' cannot be read"),
]
CONTRADICTIONS_TOO = [
    ("--model.network MLP --model.network.positions rotary", "positions is no option of MLP"),
    ("--model.network MLP --model.loss_on equation", "model.loss_on is equation, but MLP"),
    (
        "--model.network MLP --model.network.hidden wide",
        "--model.network.hidden is 'wide'; expected: a list of integers",
    ),
    ("--model.network.positions rotary --model.network.width 12", "model.network"),
    ("--model.network LSTM --model.network.dropout 0.1 --model.network.layers 1", "model.network.dropout is 0.1"),
    ("--model.network.tied true --model.network.head_scale 0.1", "head_scale"),
    ("--model.loss [stablemax,mse]", "expected: cross_entropy, stablemax, mse"),
    ("--model.loss softmax", "expected: cross_entropy, stablemax, mse"),
    ("--model.optimizer Muon --model.optimizer.matrices [nothing.*]", "nothing.*"),
    ("--model.optimizer Muon --model.optimizer.matrices [head.weight,final_norm.bias]", "final_norm.bias"),
    ("--model.optimizer Muon --model.optimizer.betas [0.9,0.98]", "did you mean --model.optimizer.adamw_betas?"),
    ("--model.optimizer.decay none", "expected: zero, initial, jiggle, l2"),
    ("--model.optimizer.update_noise -1", "model.optimizer.update_noise is -1"),
    ("--model.filters Grokfast", "model.filters names the class 'Grokfast'"),
    ("--model.filters GrokfastEMA --model.filters.alpha 2", "GrokfastEMA.alpha is 2"),
    ("--model.filters GrokfastEMA --model.filters.alpha [0.9,0.8]", "has 2 values for a stack of 1"),
    ("--model.filters GrokfastEMA --model.filters.alpha high", "alpha"),
    ("--model.weight_noise lots", "model.weight_noise is 'lots'"),
    ("--model.weight_norm fixed", "model.weight_norm is 'fixed'"),
    ("--model.weight_norm 0", "model.weight_norm is 0"),
    ("--model.schedule linear", "expected: constant, cosine"),
    ("--model.mask_first_n 4", "model.mask_first_n is 4"),
    ("--measures Fourie", "did you mean Fourier?"),
    ("--measures Fourier --data PermutationDataModule --data.degree 3 --data.formula x*y", "Fourier"),
    ("--measures Progress --data.formula x**2+x*y+y**2", "Progress"),
    ("--data.operands 1", "data.operands is 1"),
    ("--data.formula x1+x2+x3 --data.operands 43", "data.rows"),
    ("--data.rows 0", "data.rows is 0"),
    ("--data.rows 500", "data.rows is 500"),
    ("--data.train_rows 0", "data.train_rows is 0"),
    ("--data.train_rows 121", "data.train_rows is 121"),
    ("--data.answer_noise 1.5", "data.answer_noise is 1.5"),
    ("--data.answer_noise -1", "data.answer_noise is -1"),
    ("--data.answer_noise 100", "data.answer_noise is 100"),
    ("--data.tokenizer words", "expected: elements, characters"),
    ("--data SignedRemaindersDataModule --data.formula x/y", "//"),
    ("--data.formula x//y", "SignedRemaindersDataModule"),
    ("--data TextDataModule --data.strings []", "data.strings"),
    ("--init_from=", "--init_from is ''"),
    ("--model.filters GrokfastMean --model.filters.window 1000000000", "at most 16 GiB are accepted"),
    ("--model.filters GrokfastMean --model.filters.window 1e3", "GrokfastMean.window is '1e3'; expected: an integer"),
    ("--measures [Rank,Rank]", "measures has Rank 2 times"),
    ("--model.optimizer Adam --model.optimizer.capturable true", "model.optimizer"),
    ("--data TextDataModule --data.strings [aa,aa] --data.val_fraction 0.5", "data.strings has 'aa' twice"),
]


def assert_refused(command: Command, base: list[str], options: str, said: str) -> None:
    status, out, err = command("fit", *base, "--trainer.max_steps", "3", *options.split())
    assert (status, out) == (2, ""), options
    assert said in err
    assert err.count("\n") == 1
    assert list(Path().iterdir()) == []


def bare(options: str) -> list[str]:
    return [*([] if "--data " in options else ["--data.modulus", "11"]), *TINY[10:]]


def test_mistakes_are_refused_in_one_line_leaving_nothing(command: Command) -> None:
    for options, said in REFUSED:
        assert_refused(command, TINY, options, said)
    for options, said in CONTRADICTIONS:
        assert_refused(command, bare(options), options, said)


@pytest.mark.slow
def test_all_other_mistakes_are_too(command: Command) -> None:
    for options, said in REFUSED_TOO:
        assert_refused(command, TINY, options, said)
    for options, said in CONTRADICTIONS_TOO:
        assert_refused(command, bare(options), options, said)


OTHER_COMMANDS = [
    ("fitt", "did you mean fit?"),
    ("test", "needs --ckpt_path"),
    ("predict", "needs --ckpt_path"),
    ("validate --ckpt_path last", "has no run with a checkpoint last.ckpt"),
    ("generate", "CHECKPOINT PROMPTS"),
    ("generate x.ckpt", "CHECKPOINT PROMPTS"),
    ("generate x.ckpt 1+1=", "cannot be read"),
    ("inspect", "CHECKPOINT"),
    ("inspect x.ckpt", "cannot be read"),
    ("generate x.ckpt 1+1= --temp 1", "did you mean --temperature?"),
]


def test_other_commands_refuse_too(command: Command, tmp_path: Path) -> None:
    for words, said in OTHER_COMMANDS:
        status, out, err = command(*words.split())
        assert (status, out, err.count("\n")) == (2, "", 1)
        assert said in err
        assert list(tmp_path.iterdir()) == []


def test_a_table_of_permutations_too_large_for_memory_is_refused(command: Command, tmp_path: Path) -> None:
    status, _, err = command("fit", "--data", "PermutationDataModule", "--data.degree", "7")
    assert (status, err.count("\n")) == (2, 1)
    assert "5040^2 = 25,401,600 rows, about 5.9 GiB" in err
    assert list(tmp_path.iterdir()) == []


def test_an_overlong_name_is_refused(command: Command, tmp_path: Path) -> None:
    status, _, err = command("fit", *TINY, "--run", "a" * 300)
    assert (status, err.count("\n")) == (2, 1)
    assert "at most 100 letters" in err
    assert list(tmp_path.iterdir()) == []


def test_config_that_is_no_mapping_or_no_yaml(command: Command, tmp_path: Path) -> None:
    for number, text in enumerate(["- 1\n", "a: [", "data: 3\n", "data: {formulla: x}\n"]):
        (tmp_path / f"{number}.yaml").write_text(text)
        status, _, err = command("fit", "--config", f"{number}.yaml")
        assert (status, err.count("\n")) == (2, 1), err
    assert len(list(tmp_path.iterdir())) == 4


FILES = [
    ("model: {loss: null}", "--model.loss is null; expected: cross_entropy, stablemax, mse"),
    ("checkpoint: {keep: null}", "--checkpoint.keep is null"),
    ("data: {operator_token: null}", "--data.operator_token is null; expected: true or false"),
    ("model: {network: {dropout: null}}", "--model.network.dropout is null; expected: a number"),
    ("model.filter: Clip", "did you mean --model.filters?"),
    ("model: {filters: [{class_path: Clip, 1: 2}]}", "1"),
    ("data: {1: 2}", "1"),
]


def test_a_mistake_in_a_file_is_one_line(command: Command, tmp_path: Path) -> None:
    for content, said in FILES:
        (tmp_path / "c.yaml").write_text(content)
        status, out, err = command("fit", *TINY, "--trainer.max_steps", "3", "--config", "c.yaml")
        assert (status, out, err.count("\n")) == (2, "", 1)
        assert said in err
        assert [path.name for path in tmp_path.iterdir()] == ["c.yaml"]
