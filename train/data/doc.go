// Package data turns text into training batches.
//
// It is for language-model training data in JSON Lines: UTF-8, one object a line,
// in either of two forms, which one file may mix:
//
//	{"text": "…"}                        loss on every token
//	{"prompt": "…", "completion": "…"}   loss on the completion alone
//
// # Choosing
//
// Use "text" for documents and for anything already laid out as one string. Use
// "prompt" and "completion" when the model should learn to answer and not to ask.
// Chats are not read: render them with the model's template first, as the result
// depends on a template that only the model's authors know.
//
// The way is [ReadFile], then [Encode], then [Set.Split] if there is no file of
// held-out examples, then [NewLoader].
//
// # Promises
//
// Nothing is skipped silently: a line that is not one of the two forms is refused
// with its file and number, and everything that is cut or left out for length is
// counted in [Stats]. The order of the examples depends on the seed and the epoch
// and on nothing else, on any machine; a [Loader] can give any batch of any epoch at
// once, so a training run can go on where it stopped.
package data
