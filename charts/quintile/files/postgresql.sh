# One PostgreSQL for trying out: made at the first start, its password comes from a Secret.
data=/data/pgdata
if [ ! -s "$data/PG_VERSION" ]; then
  rm -rf "$data" "$data.new"
  printf '%s' "$PASSWORD" > /tmp/password
  initdb --pgdata="$data.new" --username=quintile --pwfile=/tmp/password --encoding=UTF8 \
    --auth-local=trust --auth-host=scram-sha-256 > /dev/null
  rm /tmp/password
  echo 'host all all all scram-sha-256' >> "$data.new/pg_hba.conf"
  echo 'CREATE DATABASE quintile;' | postgres --single -D "$data.new" postgres > /dev/null
  mv "$data.new" "$data"
fi
unset PASSWORD
exec postgres -D "$data" -c listen_addresses='*' -c unix_socket_directories=/tmp -c max_connections=300
