// Package web is the HTTP surface: the JSON API under /api/v1, its OpenAPI
// document, and, on a listener of its own, metrics and health.
package web

import (
	"context"
	"crypto/subtle"
	"errors"
	"log/slog"
	"net/http"
	"strings"

	"github.com/bellwether-opamp/bellwether/internal/fleet"
	"github.com/bellwether-opamp/bellwether/reconciler"
	"github.com/bellwether-opamp/bellwether/rollout"
	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
	"github.com/prometheus/client_golang/prometheus"
)

// Fleet is what the API shows and asks. All methods are safe for concurrent use.
type Fleet interface {
	Overview(ctx context.Context) (Overview, error)
	// EachAgent calls look for every known agent, sorted by ID. look must be quick
	// and keep no pointer.
	EachAgent(ctx context.Context, look func(*fleet.Agent, reconciler.AgentStatus)) error
	Command(ctx context.Context, i reconciler.Intent) (rollout.Answer, error)
}

// Overview is everything but the agents.
type Overview struct {
	Status    reconciler.Status
	Source    fleet.SourceStatus
	Revisions []reconciler.RevisionStatus // newest first
	Problem   string                      // why nothing can be made durable, or ""
}

// Config is what the API needs. Token, Logger and Registerer may be empty.
type Config struct {
	Fleet      Fleet
	Sync       func() // look at the repository now
	Version    string
	Token      string // bearer token for everything under /api; "": open
	Logger     *slog.Logger
	Registerer prometheus.Registerer
}

// New returns the API's handler.
func New(cfg Config) (http.Handler, error) {
	if cfg.Fleet == nil || cfg.Sync == nil {
		return nil, errors.New("web: Fleet and Sync are required")
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	m := newMetrics(cfg.Registerer)
	mux := http.NewServeMux()
	hc := huma.DefaultConfig("Bellwether", cfg.Version)
	hc.DocsPath = ""     // the page would load scripts from elsewhere
	hc.CreateHooks = nil // no $schema member in every answer
	hc.SchemasPath = ""  // one document says it all
	hc.OpenAPIPath = "/openapi"
	api := humago.New(mux, hc)
	api.UseMiddleware(m.middleware)
	a := &server{cfg: cfg}
	a.register(api)
	m.expect(api.OpenAPI())
	mux.HandleFunc("GET /{$}", a.root)
	return authenticate(cfg.Token, m, http.NewCrossOriginProtection().Handler(mux)), nil
}

type server struct{ cfg Config }

func (s *server) root(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, _ = w.Write([]byte("Bellwether " + s.cfg.Version + `

  /api/v1/status     what is in force, and the state of the repository
  /api/v1/rollouts   every rollout: phase, wave, results
  /api/v1/agents     every agent: what it runs and what it should run
  /api/v1/revisions  the latest commits: accepted, or rejected and why
  /openapi.yaml      the description of this API
`))
}

// authenticate asks for the bearer token before anything below /api.
func authenticate(token string, m *metrics, next http.Handler) http.Handler {
	if token == "" {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		given, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		if strings.HasPrefix(r.URL.Path, "/api/") && (!ok || subtle.ConstantTimeCompare([]byte(given), []byte(token)) != 1) {
			m.authFailures.Inc()
			w.Header().Set("WWW-Authenticate", `Bearer realm="bellwether"`)
			w.Header().Set("Content-Type", "application/problem+json")
			w.WriteHeader(http.StatusUnauthorized)
			_, _ = w.Write([]byte(`{"title":"Unauthorized","status":401,"detail":"a bearer token is required"}` + "\n"))
			return
		}
		next.ServeHTTP(w, r)
	})
}
