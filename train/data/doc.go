// Package data turns files of text into training batches.
//
// It reads JSON Lines, JSON arrays, CSV, TSV and Parquet. What a record is depends on the
// [Task]. For a language model it has one of these forms, which one file may mix:
//
//	{"text": "…"}                        loss on every token
//	{"prompt": "…", "completion": "…"}   loss on the completion alone
//	{"messages": [{"role": …}, …]}       loss on what the assistant says
//
// Prompt and completion may be lists of messages too. For [Classification] and [Regression]
// a record has "text", perhaps "text_pair", and "label", for [MultiLabel] "labels", a list;
// for [Embedding] it has "anchor",
// "positive" and perhaps "negative", or "sentence1", "sentence2" and "score".
//
// # Choosing
//
// Use "text" for documents and for anything already laid out as one string. Use
// "prompt" and "completion" when the model should learn to answer and not to ask.
// Use "messages" for chats: the template that comes with the model lays them out.
//
// The way is [ReadFiles], then [Encode], then [Set.Split] if there is no file of
// held-out examples, then [NewLoader], which packs examples or groups them by length
// on request.
//
// # Promises
//
// Nothing is skipped silently: a line that is not one of the forms is refused
// with its file and number, and everything that is cut or left out for length is
// counted in [Stats]. The order of the examples depends on the seed and the epoch
// and on nothing else, on any machine; a [Loader] can give any batch of any epoch at
// once, so a training run can go on where it stopped. A damaged or hostile file is
// refused; what is read of it is bounded before memory is taken for it.
package data
