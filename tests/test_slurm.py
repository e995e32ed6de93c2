"""Studies under a real Slurm: what is submitted, and what comes of preemption, a time limit, a failure and scancel."""

import json
import re
import subprocess
from pathlib import Path

import pytest
import slurm_cluster
from slurm_cluster import wait_for

import reproduce
from eval_hh.cells import load_cell
from study.slurm import Cluster, Jobs, write_jobs
from tests.test_commands import rankings

REPOSITORY = Path(__file__).resolve().parents[1]
STUDY = """
name: tiny
model: {model}
rewards: {{dev: {reward}, test: {reward}}}
prepare: {{source: {root}/in/rankings.jsonl, dev_rows: 3, test_rows: 4, decontaminate: false}}
grid: {{sizes: [16, 8], ranking_lens: [2], algorithms: [PRO], replicates: 1}}
training: {{global_batch_size: 4, max_train_steps: 60, checkpointing_step: 30}}
generation: {{max_new_tokens: 4}}
machine: {{num_processes: 2, batch_size: 2}}
cluster:
  hours: 0.2
  nodes: 2
  gpus: 0
  cpus: 1
  at_once: 2
  save_seconds: 60
  partition: low
  scratch: {root}/scratch
  setup: |
    export MAIN_PROCESS_IP=127.0.0.1  # both nodes are this machine
    if [ "${{SLURM_ARRAY_TASK_ID:-}}" = 1 ]; then ulimit -f 40; fi  # a full disk for one cell
"""
# Works for $1 seconds; after a signal it saves, as main.py does.
WORK = """
import os, signal, sys, time
def save(number, frame):
    time.sleep(0.3)
    print("saved after", signal.Signals(number).name, flush=True)
    sys.exit(128 + number)
for number in (signal.SIGTERM, signal.SIGUSR1):
    signal.signal(number, save)
print("started in", os.environ.get("TMPDIR"), os.path.isdir(os.environ.get("TMPDIR", "")), flush=True)
if not os.environ.get("SLURM_RESTART_COUNT"):
    time.sleep(float(sys.argv[1]))
sys.exit(int(sys.argv[2]))
"""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    if slurm_cluster.why_not():
        pytest.skip(slurm_cluster.why_not())
    with slurm_cluster.running(tmp_path_factory.mktemp("slurm")) as running:
        yield running


def submit(cluster, script, **environment) -> list[str]:
    """Submits a script's jobs; returns their numbers."""
    done = subprocess.run(
        ["bash", script], env={**cluster.environment, **environment}, capture_output=True, text=True, check=True
    )
    return re.findall(r"(?:data|cells|report|study) (\d+)", done.stdout)


def preempt(cluster) -> None:
    """Lets a job of higher priority take both nodes for a second."""
    cluster("sbatch", "-phigh", "-N2", "--ntasks-per-node=2", "-o/dev/null", "--wrap=sleep 1")


def log_of(path) -> str:
    """A log's text; a program that was killed may have left half of a progress bar's character."""
    return path.read_text(encoding="utf-8", errors="replace")


def logs_of(folder) -> str:
    return "\n".join(f"{path}: {log_of(path)[-1500:]}" for path in sorted(folder.rglob("*.log")))


def state(cluster, job) -> str:
    return re.search(r"JobState=(\w+)", cluster("scontrol", "show", "job", job))[1]


def ended(cluster, *jobs, seconds=100) -> list[str]:
    """Waits until the jobs have ended, starting at once those that were queued again; returns their states."""

    def have_ended() -> bool:
        for line in cluster("squeue", "-h", "-r", "-o", "%i %r").splitlines():
            if line.endswith(" BeginTime"):  # Slurm lets a job wait for two minutes
                cluster("scontrol", "update", f"JobId={line.split()[0]}", "StartTime=now", check=False)
        return all(state(cluster, job) in ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT") for job in jobs)

    wait_for(f"end of {jobs}", have_ended, seconds)
    return [state(cluster, job) for job in jobs]


@pytest.fixture
def work(tmp_path):
    """work(seconds, status, **limits) -> a script whose one job works so long and ends with that status."""
    (tmp_path / "work.py").write_text(WORK)

    def write(seconds, status=0, **limits):
        script = tmp_path / "a job.sh"
        limits = Cluster(cpus=1, partition="low", **limits)
        command = ["python", str(tmp_path / "work.py"), str(seconds), str(status)]
        write_jobs(script, Jobs(name="work", cluster=limits, logs=tmp_path / "logs", command=command))
        return script

    return write


def told(folder) -> list[str]:
    """What the jobs printed, without Slurm's own lines."""
    lines = "".join(log_of(path) for path in sorted((folder / "logs").glob("*"))).splitlines()
    return [line for line in lines if not line.startswith(("srun: ", "slurmstepd"))]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("line", "name"),
    [("", "SIGTERM"), ("SlurmctldParameters=preempt_send_user_signal", "SIGUSR1")],
    ids=["usual", "user_signal"],
)
def test_a_preempted_job_saves_and_comes_back(cluster, work, tmp_path, line, name):
    cluster.reconfigure(line)
    (job,) = submit(cluster, work(60, scratch=f"{tmp_path}/scratch"))
    wait_for("start", lambda: "started" in " ".join(told(tmp_path)))
    preempt(cluster)
    assert ended(cluster, job) == ["COMPLETED"]
    here = f"started in {tmp_path}/scratch/study-{job} True"
    assert told(tmp_path) == [here, f"saved after {name}", "saved; queued again", here]
    assert not list((tmp_path / "scratch").iterdir())


@pytest.mark.slow
def test_before_its_time_limit_a_job_saves_and_comes_back(cluster, work, tmp_path):
    (job,) = submit(cluster, work(100, hours=1 / 60, save_seconds=58))
    assert ended(cluster, job) == ["COMPLETED"]
    assert [line.split()[0] for line in told(tmp_path)] == ["started", "saved", "saved;", "started"]


@pytest.mark.slow
def test_a_failed_or_cancelled_job_does_not_come_back(cluster, work, tmp_path):
    (failed,) = submit(cluster, work(0, status=1))
    assert ended(cluster, failed) == ["FAILED"] and len(told(tmp_path)) == 1
    (cancelled,) = submit(cluster, work(60))
    wait_for("start", lambda: len(told(tmp_path)) == 2)
    cluster("scancel", cancelled)
    assert ended(cluster, cancelled) == ["CANCELLED"]
    wait_for("save", lambda: len(told(tmp_path)) == 3)
    assert told(tmp_path)[-1].startswith("saved after SIG")
    assert "Restarts=0" in cluster("scontrol", "show", "job", cancelled)


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("STUDY_ROOT", str(tmp_path / "a root"))
    (tmp_path / "a root").mkdir()
    return tmp_path / "a root"


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_study_of_two_nodes_per_cell_with_a_preempted_and_a_failed_cell(
    cluster, root, tiny_causal_lm_dir, tiny_reward_dir
):
    """The cell of 16 prompts is preempted in training; that of 8 has no room on its disk, and nothing else fails."""
    cluster.reconfigure("")
    rankings(root / "in" / "rankings.jsonl", 40)
    (root / "study.yaml").write_text(STUDY.format(model=tiny_causal_lm_dir("opt"), reward=tiny_reward_dir, root=root))
    reproduce.main(["--study", str(root / "study.yaml"), "--slurm", str(root / "job.sh")])
    data, cells, report = submit(cluster, root / "job.sh", OMP_NUM_THREADS="1")
    study = root / "runs" / "tiny"
    run = study / "logs" / "pro_len2_16_seed42" / "2"
    wait_for("steps", lambda: (run / "metrics.jsonl").is_file(), 200)
    preempt(cluster)
    assert ended(cluster, report, seconds=400) == ["FAILED"], logs_of(study)
    assert [state(cluster, job) for job in (data, f"{cells}_0", f"{cells}_1", f"{cells}_2")] == [
        "COMPLETED", "COMPLETED", "FAILED", "COMPLETED",
    ]  # fmt: skip
    told = log_of(study / "logs" / "slurm" / f"tiny-{cells}_0.log")
    assert "saved; queued again" in told and "stopped: " in told
    assert [json.loads(line)["step"] for line in (run / "metrics.jsonl").open()] == list(range(1, 61))
    told = log_of(study / "logs" / "slurm" / f"tiny-{cells}_1.log")
    assert told.rfind("queued again") < told.index("File too large")  # it may have given way, too, but not after that
    cell = load_cell(study / "eval_hh" / "results" / "pro_len2_16_seed42_2.json")
    assert cell["num_prompts"] == 16 and cell["profile"] == "tiny"
    report_log = log_of(study / "logs" / "slurm" / f"tiny-report-{report}.log")
    assert "error: 1 of 2 cells have no result, the first is pro_len2_8_seed42 (output in " in report_log
    assert (root / "runs" / "tiny" / "report.html").is_file()


@pytest.mark.slow
def test_the_small_study_is_one_job(cluster, root):
    """The whole of a tiny one, preempted in its first minute."""
    script, study = root / "job.sh", root / "runs"
    command = ["python", str(REPOSITORY / "tests" / "tiny_study.py"), "--only", "pro_len2_8_*"]
    limits = Cluster(cpus=2, partition="low")
    write_jobs(script, Jobs(name="toy", cluster=limits, logs=root / "logs", command=command))
    (job,) = submit(cluster, script)
    wait_for("base model", lambda: list(study.glob("toy-*/checkpoints/base")), 100)
    preempt(cluster)
    assert ended(cluster, job, seconds=200) == ["COMPLETED"], logs_of(root)
    told = log_of(root / "logs" / f"toy-{job}.log")
    assert "saved; queued again" in told and "stopped: " in told and "1 of 1 cells present" in told
    assert list(study.glob("toy-*/report.html"))
