#!/usr/bin/env bash
# The common part of the test scripts that run a list of checks; bash sources it. A script sets $scratch, a folder, defines
# more, which shows what may explain a failure, and ends with counts.
# shellcheck disable=SC2154  # scratch

passed=0 failed=0 skipped=0

counts() {
    echo "$passed passed, $failed failed, $skipped skipped"
    ((failed == 0))
}

skip() {
    skipped=$((skipped + 1))
    echo "SKIPPED $1: $2"
}

# check NAME COMMAND…: one check, which passes if the command succeeds. Its output is shown if it fails.
check() {
    local name=$1 begin=$SECONDS status
    shift
    # Not as a condition: errexit has no effect there.
    set +e
    (
        set -e
        "$@"
    ) >"$scratch/said" 2>&1
    status=$?
    set -e
    if ((status == 0)); then
        passed=$((passed + 1))
        printf 'ok: %s (%d s)%s\n' "$name" $((SECONDS - begin)) "$(tail -n 1 "$scratch/said" | sed 's/^/: /')"
    else
        failed=$((failed + 1))
        printf -- '--- FAILED: %s\n' "$name"
        tail -n 40 "$scratch/said" | cut -c 1-300
        more || true
    fi
}

# within SECONDS COMMAND…: repeats it until it succeeds.
within() {
    local end=$((SECONDS + $1))
    shift
    until "$@" >/dev/null 2>&1; do
        if ((SECONDS >= end)); then
            echo "not in time: $*"
            return 1
        fi
        sleep .1
    done
}
