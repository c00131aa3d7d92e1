// Package manifest turns the files of the fleet repository at one revision into a
// checked [Set] of declarations, or into every problem there is.
//
// A commit is one unit: there is a Set only if all manifests and all Collector
// configs they name parse and check. What is read:
//
//   - every .yaml or .yml file that mentions our API group is parsed strictly, and
//     its documents of that group are manifests; a broken one rejects the commit,
//     because nobody can tell what it declares, and so do a Git LFS pointer and a
//     link out of the repository in its place;
//   - every file that a Rollout names as its config, whatever its name;
//   - nothing else: other YAML may be as broken as it likes.
//
// Paths in manifests are relative to --git-path. A symlink is followed as long as
// it stays below it. The package is pure: the same files give the same Set.
package manifest
