#!/usr/bin/env bash
# datasets: a table read through a database connection comes back as it once was, or as it is in another database.
#
# Expected: Dataset.from_sql(query, connection) runs the query. Its documentation says that a result can be cached only
#   where the connection is given as a URI string.
# Found: a connection object is known by its address in memory, id(connection), and the result is kept on disk under that
#   number. The same connection never sees a new row, and a new connection that Python puts where a closed one was gives
#   the rows of the other database: of several clients' databases, read one after the other, all or most give the first
#   client's votes. A URI string does not see new rows either, in later processes as well. keep_in_memory=True changes
#   nothing; a new cache_dir for each call helps.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv env
env/bin/pip install -qq datasets==5.2.0 pandas==3.1.1 pyarrow==26.0.1 sqlalchemy==2.1.9
HF_HUB_OFFLINE=1 HF_HOME="$folder/cache" env/bin/python - <<'PY'
import sqlite3
import sys
import tempfile

import datasets
from datasets import Dataset

datasets.disable_progress_bars()
print("datasets", datasets.__version__)
query = "select text from votes"
clients = ("ann", "ben", "cleo", "dan", "eve")


def add(client, text):
    connection = sqlite3.connect(f"{client}.db")
    connection.execute("create table if not exists votes (text)")
    connection.execute("insert into votes values (?)", (text,))
    connection.commit()
    connection.close()


def votes(client, **how):
    """The votes in a client's own database, through a connection that is closed afterwards."""
    connection = sqlite3.connect(f"{client}.db")
    rows = Dataset.from_sql(query, connection, **how)["text"][:]
    connection.close()
    return rows


for client in clients:
    add(client, f"vote of {client}")
of_each = {client: votes(client) for client in clients}
print("each client's votes:", of_each)
fresh = {client: votes(client, cache_dir=tempfile.mkdtemp(dir=".")) for client in clients}
print("with a new cache_dir each time:", fresh)

before_uri = Dataset.from_sql(query, "sqlite:///ann.db")["text"][:]
open_connection = sqlite3.connect("ann.db")
before = Dataset.from_sql(query, open_connection)["text"][:]
add("ann", "second vote of ann")
in_table = [text for (text,) in open_connection.execute(query)]
after = Dataset.from_sql(query, open_connection, keep_in_memory=True)["text"][:]
after_uri = Dataset.from_sql(query, "sqlite:///ann.db")["text"][:]
print("in the table after another vote:", in_table)
print("from_sql on the connection that was open all the time:", after)
print("from_sql on the URI:", after_uri)
right = {client: [f"vote of {client}"] for client in clients}
as_found = of_each != right and fresh == right and len(in_table) == 2 and after == before and after_uri == before_uri
print("as found" if as_found else "THE BEHAVIOUR HAS CHANGED")
sys.exit(not as_found)
PY
