# Sourced by training/launch.sh and eval.sh: checks of machine limits, choice of Python, threads. Needs $repository.

# fail MESSAGE: exits with one line on stderr; control characters are replaced by blanks.
fail() {
    printf 'error: %s\n' "$(printf %s "$1" | tr '[:cntrl:]' ' ')" >&2
    exit 2
}

# check_whole NAME VALUE AT_LEAST AT_MOST
check_whole() {
    case $2 in
    '' | *[!0-9]* | 0?* | ??????????*) ;;
    *) if [ "$2" -ge "$3" ] && [ "$2" -le "$4" ]; then return; fi ;;
    esac
    fail "$1 $2: expected a whole number from $3 to $4"
}

# The environment of quickstart.sh is used if no other is active.
PATH=$PATH:$repository/.venv/bin
python=${PYTHON:-python3}
if [ -z "${PYTHON:-}${VIRTUAL_ENV:-}${CONDA_PREFIX:-}" ] && [ -x "$repository/.venv/bin/python" ]; then
    python=$repository/.venv/bin/python
fi

# share_cores PROCESSES: without a GPU, divides this machine's cores among that many processes.
share_cores() {
    if ! command -v nvidia-smi >/dev/null; then
        export DS_ACCELERATOR="${DS_ACCELERATOR:-cpu}"
        threads=$(($(getconf _NPROCESSORS_ONLN) / $1))
        export OMP_NUM_THREADS="${OMP_NUM_THREADS:-$((threads > 0 ? threads : 1))}"
    fi
}
