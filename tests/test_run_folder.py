"""When a run's folder says that the run is finished."""

from training.saving.checkpoints import RunFolder
from training.saving.manifest import synced_entry, write_manifest


def test_a_run_is_finished_once_its_best_is_named_and_nothing_is_left_over(tmp_path):
    run = RunFolder(tmp_path)
    assert not RunFolder(tmp_path / "none").is_finished(4, validated=True)
    for step, reward in ((2, 0.25), (4, 0.5)):
        folder = run.step_folder(step)
        folder.mkdir()
        (folder / "config.json").write_text("{}")
        write_manifest(folder, [synced_entry(folder, "config.json")])
        run.record_dev_reward(step, reward)
    run.point_best(2)
    assert not run.is_finished(4, validated=True)  # killed before step 4, the better one, was named
    run.point_best(run.chosen_step(4))
    assert run.best_step() == 4 and run.is_finished(4, validated=True)
    assert not run.is_finished(6, validated=True)
    (tmp_path / "best_checkpoint.tmp").symlink_to("step_4")
    assert not run.is_finished(4, validated=True)


def test_the_first_of_equally_good_steps_is_the_best(tmp_path):
    run = RunFolder(tmp_path)
    assert run.chosen_step(4) == 4
    for step, reward in ((6, 0.5), (2, 0.25), (4, 0.5)):
        run.record_dev_reward(step, reward)
    assert run.chosen_step(6) == 4
