#!/bin/sh
# Makes .venv in this checkout with everything that `make` needs. Called by the Makefile; safe to repeat.
# usage: setup.sh GROUP     GROUP is a dependency group of pyproject.toml: demo, dev, checkov, or deploy,
#                           which is all that the infra tool needs and brings no programs
# checkov needs other versions of what the rest needs, so it gets .venv-checkov.
set -eu
cd "$(dirname "$0")"
group=$1
venv=.venv constraints=constraints.txt
[ "$group" != checkov ] || { venv=.venv-checkov; constraints=constraints-checkov.txt; }
stamp=$venv/.installed-$group
[ "$stamp" -nt pyproject.toml ] && [ "$stamp" -nt $constraints ] && exit 0

say() { printf 'setup: %s\n' "$*" >&2; }
fail() { say "$*"; exit 1; }

# install_packages WHY PACKAGE…: through the platform's package manager, saying so first.
install_packages() {
  why=$1; shift
  command -v apt-get >/dev/null || fail "$why. Install it with your package manager (Debian's names: $*), then run make again."
  sudo=
  if [ "$(id -u)" != 0 ]; then
    sudo=sudo
    command -v sudo >/dev/null || fail "$why. As root run: apt-get install $*   then run make again."
  fi
  say "$why: running '$sudo apt-get install $*'"
  $sudo apt-get -qq update
  DEBIAN_FRONTEND=noninteractive $sudo apt-get -qq install -y --no-install-recommends "$@" >/dev/null
}

# need WHY PROGRAM PACKAGE…: the packages, if the program is not there.
need() {
  why=$1; program=$2; shift 2
  PATH=$PATH:/usr/sbin:/usr/local/sbin command -v "$program" >/dev/null || install_packages "$why" "$@"
}

if [ "$group" != deploy ] && [ "$group" != checkov ]; then
  need "The lab's databases need MariaDB's programs (no service is started)" mariadbd mariadb-server-core
  need "The lab's databases need MariaDB's client programs" mariadb-dump mariadb-client
fi
if [ "$group" = dev ]; then
  need "The tests ask the lab's name server with dig" dig bind9-dnsutils
  need "The tests call the lab with curl" curl curl
fi

python=
for candidate in "${PYTHON:-python3}" python3.13 python3.12 python3.11; do
  if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
    python=$candidate
    break
  fi
done
[ -n "$python" ] || fail "Python 3.11 or newer is needed; set PYTHON=/path/to/python3 if it is not on the PATH"
"$python" -c 'import venv, ensurepip' 2>/dev/null ||
  install_packages "Python's venv module is missing" "python3-venv"

if ! [ -x $venv/bin/pip ]; then
  say "making $venv with $("$python" --version)"
  "$python" -m venv --clear $venv
fi
say "installing the packages of group $group into $venv (about a minute the first time)"
$venv/bin/pip install --quiet --disable-pip-version-check --upgrade 'pip>=25.1,<26.3'
project="--editable ."
[ "$group" != checkov ] || project=
# shellcheck disable=SC2086  # two words, or none
$venv/bin/pip install --quiet --disable-pip-version-check --constraint $constraints \
  --group "$group" $project
touch "$stamp"
