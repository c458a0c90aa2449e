"""The metrics of the server's certificates, which servers with TLS have."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from headrace.tls.certificates import Certificates


class CertificateCollector(Collector):
    """Reads them from the certificates that are in use."""

    def __init__(self, certificates: Certificates) -> None:
        self._certificates = certificates

    def describe(self) -> Iterator[Metric]:
        """The metrics, with their values."""
        return self.collect()

    def collect(self) -> Iterator[Metric]:
        yield GaugeMetricFamily(
            "headrace_certificate_expiry_timestamp_seconds",
            "When the certificate of the server ends, in seconds since 1970",
            value=self._certificates.current.validity.ends,
        )
        yield CounterMetricFamily(
            "headrace_tls_handshake_failures",
            "Connections that ended before their handshake was done; none of --no-native-grpc's",
            value=self._certificates.failed_handshakes,
        )
