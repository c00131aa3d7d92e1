package archtest

import (
	"go/ast"
	"testing"
)

// The limits. What is over a soft one is listed, not refused.
const (
	softFile, hardFile         = 400, 600
	softFunction, hardFunction = 60, 100
)

// Files and functions are of a size that can be read at once, tests included.
func TestSizes(t *testing.T) {
	longFiles, longFunctions := 0, 0
	for _, f := range files(t) {
		lines := f.fset.Position(f.ast.FileEnd).Line
		switch {
		case lines > hardFile:
			t.Errorf("%s: %d lines, more than %d: split it by concept", f.path, lines, hardFile)
		case lines > softFile:
			longFiles++
			t.Logf("%s: %d lines, more than %d", f.path, lines, softFile)
		}
		for _, decl := range f.ast.Decls {
			fn, ok := decl.(*ast.FuncDecl)
			if !ok {
				continue
			}
			lines := f.fset.Position(fn.End()).Line - f.fset.Position(fn.Pos()).Line + 1
			switch {
			case lines > hardFunction:
				t.Errorf("%s: %s has %d lines, more than %d: take its steps apart", f.at(fn.Pos()), fn.Name.Name, lines, hardFunction)
			case lines > softFunction:
				longFunctions++
				t.Logf("%s: %s has %d lines, more than %d", f.at(fn.Pos()), fn.Name.Name, lines, softFunction)
			}
		}
	}
	t.Logf("over the soft limits: %d files, %d functions", longFiles, longFunctions)
}
