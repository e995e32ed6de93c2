"""Bad input to training: flags, data, damaged runs."""

from study_for_bad_input import TRAIN

from bad_input.table import BadInput, edit_line

DATA = "data/hh_train_len4_12/train.json"
ROWS = [
    BadInput("no index", f"{TRAIN} --index ''", ("--index",)),
    BadInput("learning rate 0", f"{TRAIN} --index e --learning_rate 0", ("--learning_rate", "above 0")),
    BadInput(
        "rewards increase", f"{TRAIN} --index e", ("{root}/" + DATA + ":2", "rewards increase"),
        (edit_line(DATA, 2, lambda row: row.update(reward=[1.0, 2.0, 0.0, 0.0])),),
    ),
]  # fmt: skip
