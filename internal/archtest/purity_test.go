package archtest

import (
	"go/ast"
	"go/token"
	"path"
	"slices"
	"strings"
	"testing"
)

// pure lists the packages that decide: same arguments, same result, and nothing
// else happens.
func pure() []string {
	return []string{"internal/fleet", "internal/otelconf", "internal/manifest", "rollout", "reconciler"}
}

// Pure packages have no clock, no I/O, no randomness, no log and no goroutines.
func TestPurity(t *testing.T) {
	effects := []string{
		"context", "crypto/rand", "database/sql", "expvar", "io/ioutil", "log", "math/rand", "net", "os", "plugin",
		"runtime", "sync", "syscall", "testing", "unsafe",
	}
	harmless := []string{"net/netip", "net/url"} // values only
	clock := []string{"Now", "Since", "Until", "Sleep", "After", "AfterFunc", "Tick", "NewTimer", "NewTicker", "Local", "LoadLocation"}
	for _, f := range files(t) {
		if f.isTest() || !slices.Contains(pure(), f.dir()) {
			continue
		}
		f.imports(func(at, p string) {
			for dir := p; dir != "."; dir = path.Dir(dir) {
				if slices.Contains(effects, dir) && !slices.Contains(harmless, p) {
					t.Errorf("%s: %s is pure and may not import %s: take the value as an argument, return what should happen", at, f.dir(), p)
				}
			}
		})
		for name, pos := range f.uses("time") {
			if slices.Contains(clock, name) {
				t.Errorf("%s: %s is pure and may not use time.%s: take now as an argument", f.at(pos), f.dir(), name)
			}
		}
		for name, pos := range f.uses("fmt") {
			if strings.HasPrefix(name, "Print") || strings.HasPrefix(name, "Scan") {
				t.Errorf("%s: %s is pure and may not use fmt.%s: return a value", f.at(pos), f.dir(), name)
			}
		}
		ast.Inspect(f.ast, func(n ast.Node) bool {
			if what := concurrency(n); what != "" {
				t.Errorf("%s: %s is pure and may not have %s: the shell runs things", f.at(n.Pos()), f.dir(), what)
			}
			return true
		})
	}
}

// concurrency names what makes a node more than a computation.
func concurrency(n ast.Node) string {
	switch n := n.(type) {
	case *ast.GoStmt:
		return "a go statement"
	case *ast.SelectStmt:
		return "a select"
	case *ast.SendStmt:
		return "a send on a channel"
	case *ast.ChanType:
		return "a channel"
	case *ast.UnaryExpr:
		if n.Op == token.ARROW {
			return "a receive from a channel"
		}
	}
	return ""
}
