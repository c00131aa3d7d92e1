package archtest

import (
	"maps"
	"slices"
	"strings"
	"testing"
)

// table says which of our packages each package may import. It is the picture in
// docs/architecture.md; a new package needs a row, with a reason in the commit.
// The order is that of the pipeline: a row only names rows above it, so that there
// can be no cycle. Files of tests may import more.
func table() []row {
	const (
		fleet    = "internal/fleet"
		otelconf = "internal/otelconf"
		manifest = "internal/manifest"
		rollout  = "rollout"
		recon    = "reconciler"
		ctrl     = "internal/controller"
		store    = "internal/store"
		web      = "internal/web"
		sim      = "internal/sim"
		app      = "internal/app"
	)
	core := []string{fleet, rollout, manifest, recon}
	return []row{
		// The core: pure.
		{fleet, nil},
		{otelconf, nil},
		{rollout, []string{fleet}},
		{manifest, []string{fleet, rollout, otelconf}},
		{recon, []string{fleet, rollout, manifest}},
		// The shell: none of these knows another.
		{ctrl, core},
		{"gitsource", []string{fleet}},
		{"opampsrv", []string{fleet}},
		{store, []string{fleet, rollout, recon}},
		{store + "/storetest", []string{fleet, rollout, recon, store}},
		{web, core},
		{sim, core},
		// The wiring.
		{app, append([]string{ctrl, "gitsource", "opampsrv", store, web, sim}, core...)},
		{"examples", nil},
		// The command: app for serve; the API's client of web, and the nouns its
		// answers are made of, for the verbs that ask a server; manifest and otelconf
		// for validate; sim and examples for flock and demo.
		{"cmd/bellwether", []string{app, web, fleet, rollout, manifest, otelconf, recon, sim, "examples"}},
		// Only tests.
		{"internal/archtest", nil},
		{"test/e2e", nil},
	}
}

type row struct {
	dir string
	may []string
}

// rooms says where each third party lives; whoever is not listed has no room and
// needs one here and an ADR.
func rooms() []room {
	return []room{
		{"github.com/go-git/", []string{"gitsource"}},
		{"golang.org/x/crypto/ssh", []string{"gitsource"}},
		{"github.com/fsnotify/fsnotify", []string{"gitsource"}},
		{"github.com/open-telemetry/opamp-go/", []string{"opampsrv", "internal/sim"}},
		{"github.com/gorilla/websocket", []string{"opampsrv", "internal/sim"}},
		{"google.golang.org/protobuf/", []string{"opampsrv", "internal/sim"}},
		{"gopkg.in/yaml.v3", []string{"internal/manifest", "internal/otelconf"}},
		{"go.opentelemetry.io/collector/", []string{"internal/otelconf"}},
		{"github.com/nats-io/", []string{"internal/store"}},
		{"github.com/danielgtaylor/huma/v2", []string{"internal/web"}},
		{"github.com/spf13/", []string{"cmd/bellwether"}},
		{"golang.org/x/sys/unix", []string{"cmd/bellwether"}}, // how wide the terminal is
		// What tests compare with; a conformance suite is a test in a package of its own.
		{"github.com/google/go-cmp/", []string{"internal/store/storetest"}},
		{"pgregory.net/rapid", []string{"internal/store/storetest"}},
		// See TestPrometheusRoom for which files.
		{"github.com/prometheus/client_golang/", []string{
			"internal/web", "internal/app", "internal/controller", "internal/store", "gitsource", "opampsrv",
		}},
	}
}

type room struct {
	prefix string
	dirs   []string
}

func TestImportTable(t *testing.T) {
	may := map[string][]string{}
	for _, r := range table() {
		for _, target := range r.may {
			if _, above := may[target]; !above {
				t.Errorf("table: the row of %s names %s, which is not a row above it", r.dir, target)
			}
		}
		may[r.dir] = r.may
	}
	all := files(t)
	for _, f := range all {
		allowed, known := may[f.dir()]
		if !known {
			t.Errorf("%s: package %s is not in the table of internal/archtest: add a row that says what it may import", f.at(f.ast.Package), f.dir())
			continue
		}
		if f.isTest() {
			continue
		}
		f.imports(func(at, p string) {
			ours, ok := strings.CutPrefix(p, modulePath)
			if ok && !slices.Contains(allowed, ours) {
				t.Errorf("%s: %s may not import %s: move the code, or pass what is needed as a value or a one-method interface", at, f.dir(), ours)
			}
		})
	}
	dirs := byDir(all)
	for _, dir := range slices.Sorted(maps.Keys(may)) {
		if len(dirs[dir]) == 0 && !strings.HasSuffix(dir, "test") {
			t.Errorf("table: there is no package %s: take its row out", dir)
		}
	}
}

func TestThirdPartyRooms(t *testing.T) {
	for _, f := range files(t) {
		if f.isTest() {
			continue
		}
		f.imports(func(at, p string) {
			host, _, _ := strings.Cut(p, "/")
			if !strings.Contains(host, ".") || strings.HasPrefix(p, modulePath) {
				return
			}
			i := slices.IndexFunc(rooms(), func(r room) bool { return strings.HasPrefix(p, r.prefix) })
			switch {
			case i < 0:
				t.Errorf("%s: %s has no room: a dependency needs an ADR and an entry in internal/archtest", at, p)
			case !slices.Contains(rooms()[i].dirs, f.dir()):
				t.Errorf("%s: %s may only be imported in %s, not in %s", at, p, strings.Join(rooms()[i].dirs, " and "), f.dir())
			}
		})
	}
}

// The Prometheus client is used in metrics.go files and in the package that serves
// /metrics. Elsewhere only the types with which a registry is handed on may be
// named, so that no decision is ever taken next to a counter.
func TestPrometheusRoom(t *testing.T) {
	const client = "github.com/prometheus/client_golang/"
	handOn := []string{"Registerer", "Gatherer", "Registry"}
	for _, f := range files(t) {
		if f.isTest() || f.dir() == "internal/web" || strings.HasSuffix(f.path, "metrics.go") {
			continue
		}
		f.imports(func(at, p string) {
			if strings.HasPrefix(p, client) && p != client+"prometheus" {
				t.Errorf("%s: %s belongs into a metrics.go file", at, p)
			}
		})
		for name, pos := range f.uses(client + "prometheus") {
			if !slices.Contains(handOn, name) {
				t.Errorf("%s: prometheus.%s belongs into a metrics.go file; here only %s may be named", f.at(pos), name, strings.Join(handOn, ", "))
			}
		}
	}
}
