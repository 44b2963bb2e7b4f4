#!/usr/bin/env bash
# Installs what the deployment tests run for real: sshd, Slurm, munge, OpenMPI, rsync and the tools of name spaces from Debian or Ubuntu, mpi4py and notebook
# into the virtual environment VENV; where a docker daemon answers also debootstrap and docker-compose, and for NAME `all` or
# `remote-mpi` a browser. No daemon is started (the tests start their own). Where it can't install it says what is missing and exits 0: the tests that want it are
# skipped with that reason (REQUIRE_DEPLOY=1: they fail). Quick when all is there.
# usage: tools/deploy-deps.sh VENV [NAME]
set -euo pipefail
cd "$(dirname "$0")/.."
venv=$1
PATH=$PATH:/usr/sbin:/sbin

have() { command -v "$1" >/dev/null 2>&1; }
missing=()
wants() { have "$1" || missing+=("${@:2}"); } # PROGRAM PACKAGE…
wants sshd openssh-server
wants ssh openssh-client
wants sshpass sshpass
wants ip iproute2
wants iptables iptables
wants rsync rsync
wants munged munge
wants slurmctld slurmctld
wants slurmd slurmd
wants sbatch slurm-client
wants mpiexec.openmpi openmpi-bin
wants mpiexec.hydra mpich
if have docker && docker info 2>/dev/null | grep -q 'Server Version'; then # docker itself is not installed
    wants debootstrap debootstrap
    docker compose version >/dev/null 2>&1 || wants docker-compose docker-compose
    case "${2:-}" in
    all | remote-mpi)
        wants chromium chromium
        wants chromedriver chromium-driver
        ;;
    esac
fi
# Slurm's PMIx plugin opens libpmix.so by that name, which is in the development package.
[ -n "$(compgen -G '/usr/lib*/libpmix.so' || compgen -G '/usr/lib/*/libpmix.so')" ] || missing+=(libpmix-dev)

if [ ${#missing[@]} -gt 0 ]; then
    if ! have apt-get || [ "$(id -u)" != 0 ]; then
        echo "deployment tests that need these will be skipped; as root on Debian: apt-get install ${missing[*]}" >&2
    else
        echo "installing:" "${missing[@]}"
        # no daemon may start by itself: a policy of our own for the time of the installation, where there is none
        policy=/usr/sbin/policy-rc.d
        if [ ! -e $policy ]; then
            printf '#!/bin/sh\nexit 101\n' >$policy
            chmod 755 $policy
            trap 'rm -f $policy' EXIT
        fi
        log=$(mktemp)
        if ! { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}"; } >"$log" 2>&1; then
            tail -n 20 "$log" >&2
            echo "not all could be installed: the tests that need it are skipped" >&2
        fi
        rm -f "$log"
    fi
fi
[ -e "$venv/bin/jupyter-notebook" ] ||
    "$venv/bin/python" -m pip install -q --disable-pip-version-check notebook ||
    echo "notebook could not be installed: the test of a notebook in a batch job is skipped" >&2
"$venv/bin/python" -c 'import mpi4py' 2>/dev/null ||
    "$venv/bin/python" -m pip install -q --disable-pip-version-check mpi4py ||
    echo "mpi4py could not be installed: the tests of MPI are skipped" >&2
