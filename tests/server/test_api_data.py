"""Files of feedback over HTTP."""

from __future__ import annotations

import json

from tests.server.running import Running

ROWS = [
    {"prompt": "Capital of Chad?", "chosen": "N'Djamena", "rejected": "Rome"},
    {"prompt": "What is the capital of Spain?", "chosen": "", "rejected": "Rome."},
]
BODY = b"\xef\xbb\xbf" + "\n".join(map(json.dumps, ROWS)).encode()


def test_an_import_names_the_line_that_cannot_be_learned_or_skips_it_if_asked(server: Running) -> None:
    client = server.as_user("anna")
    refused = client.post("/v1/data/import?format=preference", content=BODY)
    assert refused.status_code == 400
    assert refused.json()["error"]["message"] == (
        "line 2 is not of the format preference: chosen is empty; nothing was imported"
    )
    assert "Djamena" not in client.get("/v1/data/export?format=kto").text
    done = client.post("/v1/data/import?format=preference&skip_bad=true", content=BODY).json()
    assert (done["added"], done["skipped"]) == (1, 1)
    assert done["skipped_rows"] == [{"place": "line 2", "reason": "chosen is empty"}]
    assert "Djamena" in client.get("/v1/data/export?format=kto").text
