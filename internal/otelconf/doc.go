// Package otelconf reads Collector configs: it parses them strictly, checks the
// structure that every Collector build insists on, and merges several files into
// one as the Collector does.
//
// It knows no component and starts none: what a receiver's own settings mean is
// not looked at. References such as ${env:X} and the escape $$ are text to it and
// stay as they are; where a value is one reference as a whole it may be of any
// type, and nothing below it is judged.
//
// The layer below, strict YAML with positions ([Documents]), is shared with the
// manifests. Everything here is pure.
package otelconf
