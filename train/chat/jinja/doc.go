// Package jinja renders chat templates: the part of Jinja 3.1 that templates of
// language models use, with the settings that the transformers library has for them
// (trim_blocks, lstrip_blocks, loop controls, the immutable sandbox, the tag
// "generation"), and with Python's idea of values, so that None, True, 1.0, negative
// division, slices, printing a list and the order of a dict are what they are there.
//
// [Parse] makes a [Template], and [Template.Render] a text. There is nothing to choose:
// who has a model directory uses package chat, which finds the template and gives it
// what transformers gives.
//
// # Promises
//
//   - What is rendered is what Jinja renders. A statement, filter or test that is not
//     implemented is refused by name when the template is parsed, a method or a kind of
//     value when it comes to it, and never rendered as something else.
//   - A template is a program from somebody else. It sees the values that it is given and
//     nothing more, and it cannot change them. The work of one rendering, the size of
//     what it makes and the depth of its calls are bounded, so that it ends.
//   - A Template does not change and may be rendered from many goroutines.
//
// Values are nil, bool, int64, *big.Int, float64, string, [List], [Tuple] and [*Dict];
// [FromJSON] makes them.
package jinja
