package store

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// Registerer is where metrics are registered.
type Registerer = prometheus.Registerer

type metrics struct {
	duration *prometheus.HistogramVec
	errors   *prometheus.CounterVec
}

// operations are the values of the label operation.
func operations() []string {
	return []string{"campaign", "load", "commit", "beat", "put_config", "get_config", "prune_configs", "journal", "read_journal", "checkpoint"}
}

func newMetrics(r prometheus.Registerer, size func() float64) *metrics {
	f := promauto.With(r)
	m := &metrics{
		duration: f.NewHistogramVec(prometheus.HistogramOpts{
			Name: "bellwether_store_operation_duration_seconds", Help: "Time of one operation of the store.",
			Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5},
		}, []string{"operation"}),
		errors: f.NewCounterVec(prometheus.CounterOpts{
			Name: "bellwether_store_errors_total", Help: "Operations of the store that were not done.",
		}, []string{"operation"}),
	}
	f.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "bellwether_store_size_bytes", Help: "Bytes the store holds on disk, checkpoints not included.",
	}, size)
	for _, op := range operations() {
		m.duration.WithLabelValues(op)
		m.errors.WithLabelValues(op)
	}
	return m
}

// done counts one operation. It is deferred with a pointer to the error.
func (m *metrics) done(operation string, began time.Time, err *error) {
	m.duration.WithLabelValues(operation).Observe(time.Since(began).Seconds())
	if *err != nil {
		m.errors.WithLabelValues(operation).Inc()
	}
}
