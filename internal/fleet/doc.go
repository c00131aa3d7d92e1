// Package fleet holds the nouns of the project: what an agent is and reports,
// what a config is and how it is named, and what a revision of the fleet
// repository contains. Everything here is a value; [Fold] is the only verb, and
// it is pure. The package imports nothing of ours, so that everybody may import it.
package fleet
