#!/bin/sh
# Installs the servers that the tests run against, on Debian or Ubuntu, as root. They are not started as services.
set -eu
export DEBIAN_FRONTEND=noninteractive

policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
  printf '#!/bin/sh\nexit 101\n' > "$policy"
  chmod +x "$policy"
  trap 'rm -f "$policy"' EXIT
fi

apt-get update -q
apt-get install -q -y --no-install-recommends redis-server postgresql etcd-server pgbouncer faketime
