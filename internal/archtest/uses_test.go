package archtest

import (
	"go/ast"
	"go/token"
	"iter"
)

// uses yields each name of an imported package that the file mentions, and where.
// It goes by the import's identifier: a local variable that hides it would be taken
// for the package, which at worst asks for a better name.
func (f *file) uses(importPath string) iter.Seq2[string, token.Pos] {
	return func(yield func(string, token.Pos) bool) {
		pkg, ok := f.names()[importPath]
		if !ok {
			return
		}
		done := false
		ast.Inspect(f.ast, func(n ast.Node) bool {
			sel, ok := n.(*ast.SelectorExpr)
			if !ok || done {
				return !done
			}
			if id, ok := sel.X.(*ast.Ident); ok && id.Name == pkg {
				done = !yield(sel.Sel.Name, sel.Pos())
			}
			return !done
		})
	}
}
