package web

import (
	"cmp"
	"net/http"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

type metrics struct {
	requests     *prometheus.CounterVec
	duration     *prometheus.HistogramVec
	authFailures prometheus.Counter
}

func newMetrics(r prometheus.Registerer) *metrics {
	f := promauto.With(r)
	m := &metrics{
		requests: f.NewCounterVec(prometheus.CounterOpts{
			Name: "bellwether_http_requests_total", Help: "Requests to the API.",
		}, []string{"handler", "method", "code"}),
		duration: f.NewHistogramVec(prometheus.HistogramOpts{
			Name: "bellwether_http_request_duration_seconds", Help: "Time to answer a request to the API.",
		}, []string{"handler", "method", "code"}),
		authFailures: f.NewCounterVec(prometheus.CounterOpts{
			Name: "bellwether_auth_failures_total", Help: "Requests without the right token.",
		}, []string{"surface"}).WithLabelValues("api"),
	}
	return m
}

// expect creates the counters of what every operation answers when all is well.
func (m *metrics) expect(document *huma.OpenAPI) {
	for _, path := range document.Paths {
		for _, op := range []*huma.Operation{path.Get, path.Post} {
			if op != nil {
				code := strconv.Itoa(cmp.Or(op.DefaultStatus, http.StatusOK))
				m.requests.WithLabelValues(op.OperationID, op.Method, code)
			}
		}
	}
}

// middleware counts by operation, never by path.
func (m *metrics) middleware(ctx huma.Context, next func(huma.Context)) {
	began := time.Now()
	next(ctx)
	code := strconv.Itoa(ctx.Status())
	handler := ctx.Operation().OperationID
	m.requests.WithLabelValues(handler, ctx.Method(), code).Inc()
	m.duration.WithLabelValues(handler, ctx.Method(), code).Observe(time.Since(began).Seconds())
}
