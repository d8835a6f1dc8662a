#!/bin/sh
# Makes an authority, once, and with it the coordinator's certificate, again whenever less than 30 days of it are left.
#
#   deploy/certificates.sh AUTHORITY SERVER TRUST NAME...
#
#   AUTHORITY  folder of ca.key, which signs, and ca.pem: keep it away from the coordinator
#   SERVER     folder of server.pem and server.key, for the coordinator alone
#   TRUST      folder of ca.pem, for everybody who calls the coordinator
#   NAME       a name or an address (IP:10.0.0.5) under which the coordinator is called
#
# Needs OpenSSL 3. OWNER=UID gives the coordinator's files to that user. docs/security.md says what the certificates are for.
set -eu
[ $# -ge 4 ] || { sed -n '2,11s/^# \{0,1\}//p' "$0" >&2; exit 2; }
authority=$1 server=$2 trust=$3
shift 3
mkdir -p "$authority" "$server" "$trust"
umask 077

if [ ! -e "$authority/ca.key" ]; then
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 3650 -subj "/CN=Paceline authority" \
    -addext keyUsage=critical,keyCertSign,cRLSign -keyout "$authority/ca.key" -out "$authority/ca.pem" 2>/dev/null
  echo "a new authority: $authority/ca.pem"
fi

names=''
for name in "$@"; do
  case $name in
    IP:*|DNS:*) ;;
    *) name=DNS:$name ;;
  esac
  names=${names:+$names,}$name
done
# Made again if it is old, has other names, or is of another authority.
if [ "$(cat "$server/names" 2>/dev/null)" != "$names" ] ||
  ! openssl x509 -checkend $((30 * 86400)) -noout -in "$server/server.pem" >/dev/null 2>&1 ||
  ! openssl verify -CAfile "$authority/ca.pem" "$server/server.pem" >/dev/null 2>&1; then
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 365 -subj "/CN=coordinator" \
    -addext basicConstraints=critical,CA:FALSE -addext extendedKeyUsage=serverAuth -addext "subjectAltName=$names" \
    -CA "$authority/ca.pem" -CAkey "$authority/ca.key" -keyout "$server/new.key" -out "$server/new.pem" 2>/dev/null
  # Both are new when the coordinator looks next, or it says that they do not fit and looks again.
  mv "$server/new.key" "$server/server.key"
  mv "$server/new.pem" "$server/server.pem"
  printf '%s' "$names" > "$server/names"
  echo "a new certificate: $server/server.pem for $names"
fi
if [ -n "${OWNER:-}" ]; then chown "$OWNER" "$server" "$server/server.key" "$server/server.pem"; fi
cp "$authority/ca.pem" "$trust/ca.pem"
chmod 755 "$trust"
chmod 644 "$trust/ca.pem"
