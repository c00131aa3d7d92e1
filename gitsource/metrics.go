package gitsource

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/bellwether-opamp/bellwether/internal/fleet"
)

// Registerer is where a [Source] registers its metrics; nil is nowhere.
type Registerer = prometheus.Registerer

const (
	lsRemote = "ls_remote"
	fetching = "fetch"
	success  = "success"
)

type metrics struct {
	requests    *prometheus.CounterVec
	duration    *prometheus.HistogramVec
	lastSuccess prometheus.Gauge
	headTime    prometheus.Gauge
	headInfo    *prometheus.GaugeVec
}

func newMetrics(registerer prometheus.Registerer) *metrics {
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "bellwether_git_requests_total",
			Help: "Looks at the git source and fetches from it, by result: success, or the reason of the failure.",
		}, []string{"type", "result"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "bellwether_git_request_duration_seconds",
			Help:    "How long looks at the git source and fetches from it took.",
			Buckets: []float64{0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10, 30, 60, 120},
		}, []string{"type", "result"}),
		lastSuccess: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "bellwether_git_last_success_timestamp_seconds",
			Help: "When the git source last answered a look.",
		}),
		headTime: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "bellwether_git_head_commit_timestamp_seconds",
			Help: "Commit time of the newest revision that was fetched.",
		}),
		headInfo: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "bellwether_git_head_info",
			Help: "The newest revision that was fetched; always 1.",
		}, []string{"commit", "branch"}),
	}
	for _, kind := range []string{lsRemote, fetching} {
		m.requests.WithLabelValues(kind, success)
		m.duration.WithLabelValues(kind, success)
		for _, reason := range reasons() {
			m.requests.WithLabelValues(kind, string(reason))
		}
	}
	if registerer != nil {
		registerer.MustRegister(m.requests, m.duration, m.lastSuccess, m.headTime, m.headInfo)
	}
	return m
}

func (m *metrics) request(kind string, f *failure, took time.Duration) {
	result := success
	if f != nil {
		result = string(f.reason)
	}
	m.requests.WithLabelValues(kind, result).Inc()
	m.duration.WithLabelValues(kind, result).Observe(took.Seconds())
}

func (m *metrics) answered(now time.Time) {
	m.lastSuccess.Set(float64(now.UnixMilli()) / 1000)
}

func (m *metrics) head(r fleet.Revision) {
	m.headInfo.Reset()
	m.headInfo.WithLabelValues(r.ID, r.Branch).Set(1)
	m.headTime.Set(float64(r.Time.Unix()))
}
