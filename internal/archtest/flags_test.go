package archtest

import (
	"go/ast"
	"go/token"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// Every flag of serve is in docs/operations.md, and every flag named there exists.
func TestFlagsAreDocumented(t *testing.T) {
	const page = "docs/operations.md"
	text, err := os.ReadFile(filepath.Join(root(t), filepath.FromSlash(page)))
	if err != nil {
		t.Fatal(err)
	}
	flags := map[string]bool{}
	for _, f := range files(t) {
		if f.path != "cmd/bellwether/serve.go" {
			continue
		}
		ast.Inspect(f.ast, func(n ast.Node) bool {
			if name, pos := flagOf(n); name != "" {
				flags[name] = true
				if !strings.Contains(string(text), "`--"+name+"`") {
					t.Errorf("%s: the flag --%s is not in %s: say what it is for, and its default", f.at(pos), name, page)
				}
			}
			return true
		})
	}
	if len(flags) < 10 {
		t.Fatalf("found only %d flags of serve: are they elsewhere now?", len(flags))
	}
	for i, line := range strings.Split(string(text), "\n") {
		if !strings.HasPrefix(line, "| `--") {
			continue
		}
		names, _, _ := strings.Cut(strings.TrimPrefix(line, "| "), " |")
		for name := range strings.SplitSeq(names, ", ") {
			if name = strings.TrimPrefix(strings.Trim(name, "`"), "--"); !flags[name] {
				t.Errorf("%s:%d: serve has no flag --%s", page, i+1, name)
			}
		}
	}
}

// flagOf returns the name of the flag that a call such as f.StringVar(&x, "name", …)
// defines, or "".
func flagOf(n ast.Node) (string, token.Pos) {
	call, ok := n.(*ast.CallExpr)
	if !ok || len(call.Args) < 4 {
		return "", token.NoPos
	}
	sel, ok := call.Fun.(*ast.SelectorExpr)
	if !ok || !strings.HasSuffix(sel.Sel.Name, "Var") {
		return "", token.NoPos
	}
	lit, ok := call.Args[1].(*ast.BasicLit)
	if !ok || lit.Kind != token.STRING {
		return "", token.NoPos
	}
	name, err := strconv.Unquote(lit.Value)
	if err != nil {
		return "", token.NoPos
	}
	return name, lit.Pos()
}
