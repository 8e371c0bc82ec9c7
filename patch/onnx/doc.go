// Package onnx finds the layers of an ONNX graph that take adapters, says which module of
// the original model each of them is, and changes the graph.
//
// # How to choose
//
// [Find] lists a graph's layers with the evidence for their module paths. [Bind] fits
// adapters to them. [Binding.Model] is what patch.NewModelPlan merges into, and
// [Binding.Merge] makes the plan's result an edit of the file. [Binding.Inject] leaves the
// weights alone and adds the adapters to the graph.
//
// # What is promised
//
// How a layer stores its weight comes from its operator, never from a shape. A module that
// could be several layers is an error that lists them. A weight that other layers share is
// copied before it changes, so that a layer that no adapter names computes what it did.
//
// How exporters name things is described beside the rules in evidence.go.
package onnx
