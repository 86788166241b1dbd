"""/healthz for monitoring, /metrics for Prometheus."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from fastapi import APIRouter, Request
from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from starlette.responses import Response

from server.api.asking import Asker, Whole
from server.current_user import Access
from services.accounts.permissions import require_owner

router = APIRouter()
LABELS = {
    "conversations": (),
    "messages": ("role", "kind"),
    "votes": ("value",),
    "traces": ("side", "status"),
    "rounds": ("status",),
}


class Metrics(Collector):
    """Reads store and learning at each scrape; nothing is counted twice, and a restart begins no figure again."""

    def __init__(self, access: Access) -> None:
        self._session = access.app_services
        self._registry = CollectorRegistry(auto_describe=False)
        for collector in (ProcessCollector(registry=None), PlatformCollector(registry=None), self):
            self._registry.register(collector)

    def collect(self) -> Iterator[Metric]:
        for name, groups in self._session.engine.store.counts().items():
            family = GaugeMetricFamily(f"spear_{name}", f"Stored {name}.", labels=LABELS[name])
            for labels, count in groups.items():
                family.add_metric(labels, count)
            yield family
        status = self._session.learning.status()
        yield GaugeMetricFamily("spear_adapter_version", "Version that answers; 0: base.", status.adapter_version)
        yield GaugeMetricFamily("spear_learning_paused", "1 while learning is paused.", int(status.paused))
        yield GaugeMetricFamily("spear_pending_wins", "Right answers that wait to be learned.", status.pending_wins)
        yield GaugeMetricFamily("spear_pending_loses", "Rejected answers that wait.", status.pending_loses)
        if status.seconds is not None:
            yield GaugeMetricFamily("spear_seconds_to_live", "Of the last round, from word to live.", status.seconds)

    def text(self) -> bytes:
        return generate_latest(self._registry)


@router.get("/healthz")
def health(whole: Whole) -> dict[str, Any]:
    """Open to all: 200 while store and model answer, 503 otherwise."""
    return {"status": "ok", "model": whole.model.name, "adapter_version": whole.learning.status().adapter_version}


@router.get("/metrics")
def metrics(request: Request, user: Asker) -> Response:
    """Owners: figures, no words."""
    require_owner(user, "read the metrics")
    found: Metrics = request.app.state.metrics
    return Response(found.text(), media_type=CONTENT_TYPE_LATEST)
