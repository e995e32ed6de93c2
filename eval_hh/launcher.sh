# Sourced by training/launch.sh and eval.sh: checks of machine limits, choice of Python. Needs $repository.

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

# Several machines, each of which runs the same command: NUM_PROCESSES counts the processes of all.
num_machines=${NUM_MACHINES:-1}
machine_rank=${MACHINE_RANK:-0}
main_process_ip=${MAIN_PROCESS_IP:-127.0.0.1}

# check_machines NUM_PROCESSES
check_machines() {
    check_whole NUM_PROCESSES "$1" 1 99999
    check_whole NUM_MACHINES "$num_machines" 1 99999
    check_whole MACHINE_RANK "$machine_rank" 0 $((num_machines - 1))
    [ $(($1 % num_machines)) = 0 ] ||
        fail "NUM_PROCESSES $1: expected as many on each of the NUM_MACHINES $num_machines"
}
