package archtest

import (
	"go/ast"
	"go/token"
	"strings"
	"testing"
)

// Every package says in one sentence what it is for, in one file.
func TestPackageDocs(t *testing.T) {
	for dir, fs := range byDir(files(t)) {
		var docs []*file
		for _, f := range fs {
			if !f.isTest() && f.ast.Doc != nil {
				docs = append(docs, f)
			}
		}
		switch {
		case len(docs) == 0:
			t.Errorf("%s: package %s has no doc comment: say in doc.go what it is for", fs[0].at(fs[0].ast.Package), dir)
			continue
		case len(docs) > 1:
			t.Errorf("%s: a second package comment of %s: the other is at %s", docs[1].at(docs[1].ast.Package), dir, docs[0].path)
		}
		f, want := docs[0], "Package "+docs[0].ast.Name.Name+" "
		if f.ast.Name.Name == "main" {
			want = "Command "
		}
		if text := f.ast.Doc.Text(); !strings.HasPrefix(text, want) {
			t.Errorf("%s: the package comment of %s must begin with %q", f.at(f.ast.Doc.Pos()), dir, want)
		}
	}
}

// Every exported name has a comment, which begins with the name and ends as a
// sentence does. Members of a group may share the group's comment, and fields and
// methods of interfaces are their type's business.
func TestExportedDocs(t *testing.T) {
	for _, f := range files(t) {
		if f.isTest() || f.ast.Name.Name == "main" {
			continue
		}
		for _, decl := range f.ast.Decls {
			switch d := decl.(type) {
			case *ast.FuncDecl:
				if d.Name.IsExported() && exportedReceiver(d) {
					checkDoc(t, f, d.Name, d.Doc)
				}
			case *ast.GenDecl:
				checkGroup(t, f, d)
			}
		}
	}
}

func checkGroup(t *testing.T, f *file, d *ast.GenDecl) {
	for _, spec := range d.Specs {
		switch s := spec.(type) {
		case *ast.TypeSpec:
			if s.Name.IsExported() {
				checkDoc(t, f, s.Name, either(s.Doc, d.Doc))
			}
		case *ast.ValueSpec:
			for _, name := range s.Names {
				switch {
				case !name.IsExported():
				case d.Lparen == token.NoPos:
					checkDoc(t, f, name, either(s.Doc, d.Doc))
				case s.Doc == nil && d.Doc == nil && s.Comment == nil:
					t.Errorf("%s: %s is exported and has no comment, nor has its group", f.at(name.Pos()), name.Name)
				}
			}
		}
	}
}

func checkDoc(t *testing.T, f *file, name *ast.Ident, doc *ast.CommentGroup) {
	t.Helper()
	if doc == nil {
		t.Errorf("%s: %s is exported and has no comment: state the rule, units, errors and who may call it", f.at(name.Pos()), name.Name)
		return
	}
	text := strings.TrimSpace(doc.Text())
	first, _, _ := strings.Cut(text, " ")
	switch {
	case first != name.Name && !isArticle(text, name.Name):
		t.Errorf("%s: the comment of %s must begin with %q", f.at(doc.Pos()), name.Name, name.Name)
	case !endsWell(text):
		t.Errorf("%s: the comment of %s must end with a full stop", f.at(doc.Pos()), name.Name)
	}
}

// isArticle reports whether a type is introduced as "A Rollout is …".
func isArticle(text, name string) bool {
	return strings.HasPrefix(text, "A "+name) || strings.HasPrefix(text, "An "+name) || strings.HasPrefix(text, "The "+name)
}

// endsWell accepts a sentence, or an example, indented, after the last sentence.
func endsWell(text string) bool {
	last := text[strings.LastIndex(text, "\n")+1:]
	return strings.HasSuffix(last, ".") || strings.HasSuffix(last, ".)") || strings.HasPrefix(last, "\t") || strings.HasPrefix(last, "    ") || strings.HasPrefix(last, "  - ")
}

// exportedReceiver reports whether a function can be seen from outside: it has no
// receiver, or an exported one.
func exportedReceiver(d *ast.FuncDecl) bool {
	if d.Recv == nil {
		return true
	}
	x := d.Recv.List[0].Type
	for {
		switch e := x.(type) {
		case *ast.StarExpr:
			x = e.X
		case *ast.IndexExpr:
			x = e.X
		case *ast.IndexListExpr:
			x = e.X
		case *ast.Ident:
			return e.IsExported()
		default:
			return false
		}
	}
}

func either(a, b *ast.CommentGroup) *ast.CommentGroup {
	if a != nil {
		return a
	}
	return b
}
