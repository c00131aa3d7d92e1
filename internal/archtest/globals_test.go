package archtest

import (
	"go/ast"
	"go/token"
	"slices"
	"strings"
	"testing"
)

// A package-level variable is allowed when nobody can change what it stands for:
// an error, a compiled regular expression, an embedded file, an array (the compiler
// does not stop writes to its elements; reviewers do), an interface assertion to the
// blank name. Maps, slices, pointers
// and plain values are not: make them constants, or functions that return them.
//
// mutable are the exceptions, each with its reason.
func mutable() map[string]string {
	return map[string]string{
		"cmd/bellwether version":   "set by the linker",
		"cmd/bellwether builtFrom": "set by the linker",
	}
}

// There is no state outside of values that somebody owns.
func TestNoGlobalState(t *testing.T) {
	unused := mutable()
	for _, f := range files(t) {
		for _, decl := range f.ast.Decls {
			switch d := decl.(type) {
			case *ast.FuncDecl:
				if d.Recv == nil && d.Name.Name == "init" {
					t.Errorf("%s: no init functions: what runs is what main calls", f.at(d.Pos()))
				}
			case *ast.GenDecl:
				if d.Tok != token.VAR || f.isTest() {
					continue
				}
				for _, spec := range d.Specs {
					checkVar(t, f, d, spec.(*ast.ValueSpec), unused)
				}
			}
		}
	}
	for key := range unused {
		t.Errorf("mutable: there is no variable %s: take it out", key)
	}
}

func checkVar(t *testing.T, f *file, d *ast.GenDecl, s *ast.ValueSpec, unused map[string]string) {
	t.Helper()
	for i, name := range s.Names {
		key := f.dir() + " " + name.Name
		if _, ok := mutable()[key]; ok {
			delete(unused, key)
			continue
		}
		var value ast.Expr
		if i < len(s.Values) {
			value = s.Values[i]
		}
		if name.Name == "_" || embedded(d, s) || unchanging(value) || isError(name.Name, value) {
			continue
		}
		t.Errorf("%s: the variable %s can be changed by anybody: make it a constant, an array, a function that returns it, or a field of whoever owns it", f.at(name.Pos()), name.Name)
	}
}

func embedded(d *ast.GenDecl, s *ast.ValueSpec) bool {
	for _, doc := range []*ast.CommentGroup{d.Doc, s.Doc} {
		if doc == nil {
			continue
		}
		for _, c := range doc.List {
			if strings.HasPrefix(c.Text, "//go:embed ") {
				return true
			}
		}
	}
	return false
}

// isError reports whether a variable is an error made by a function of ours.
func isError(name string, value ast.Expr) bool {
	_, call := value.(*ast.CallExpr)
	return call && (strings.HasPrefix(name, "err") || strings.HasPrefix(name, "Err"))
}

// unchanging reports whether an initial value makes a variable harmless.
func unchanging(value ast.Expr) bool {
	switch v := value.(type) {
	case *ast.CallExpr:
		return slices.Contains([]string{
			"errors.New", "fmt.Errorf", "regexp.MustCompile", "regexp.MustCompilePOSIX", "netip.MustParsePrefix",
		}, callee(v))
	case *ast.CompositeLit:
		array, ok := v.Type.(*ast.ArrayType)
		return ok && array.Len != nil
	}
	return false
}

func callee(c *ast.CallExpr) string {
	sel, ok := c.Fun.(*ast.SelectorExpr)
	if !ok {
		return ""
	}
	if x, ok := sel.X.(*ast.Ident); ok {
		return x.Name + "." + sel.Sel.Name
	}
	return ""
}

// A package is named for what it is about.
func TestPackageNames(t *testing.T) {
	empty := []string{"util", "utils", "helper", "helpers", "common", "types", "models", "model", "base", "misc", "shared", "lib"}
	for dir, fs := range byDir(files(t)) {
		name := strings.TrimSuffix(fs[0].ast.Name.Name, "_test")
		if slices.Contains(empty, name) {
			t.Errorf("%s: %q says nothing: name the package for what it is about", fs[0].at(fs[0].ast.Package), name)
		}
		if strings.ContainsAny(name, "_ABCDEFGHIJKLMNOPQRSTUVWXYZ") {
			t.Errorf("%s: %q of %s: package names are one lower-case word", fs[0].at(fs[0].ast.Package), name, dir)
		}
	}
}
