package data

import (
	"strconv"

	"github.com/seed-b982eded/graft/train/chat"
	"github.com/seed-b982eded/graft/train/chat/jinja"
)

// Origin says where an example came from.
type Origin struct {
	File string
	Line int // from 1
	// IsRow says that Line counts rows, as Parquet files have no lines.
	IsRow bool
}

// Place returns "line 3", or "row 3" of a file of rows.
func (o Origin) Place() string {
	return o.Unit() + " " + strconv.Itoa(o.Line)
}

// Unit says what Line counts: lines, or rows of a table.
func (o Origin) Unit() string {
	if o.IsRow {
		return "row"
	}
	return "line"
}

// String returns FILE:LINE, with the file as it was given.
func (o Origin) String() string { return o.File + ":" + strconv.Itoa(o.Line) }

// Task is what a model is trained to do; it decides which fields a record has.
type Task int

const (
	// LanguageModel: a text, a prompt with its completion, or a chat.
	LanguageModel Task = iota
	// Classification: a text, or two, and the name or number of a class.
	Classification
	// MultiLabel: a text, or two, and any number of classes.
	MultiLabel
	// Regression: a text, or two, and a number.
	Regression
	// Embedding: texts that belong together, or two and how much they do.
	Embedding
)

// Record is one piece of data before it is tokenised. Which fields are set depends on the
// task, and on which of its forms the record has.
type Record struct {
	Origin
	// Text is a document, or what is classified; with TextPair, its first part.
	Text     string
	TextPair string
	// Prompt and Completion are set together.
	Prompt, Completion string
	// Chat is a conversation. Where it has a Reply, it is a prompt and the reply its
	// completion.
	Chat *Chat
	// Label is the class, or the number, that a text has.
	Label Label
	// Labels are the classes of a record of [MultiLabel]; there may be none.
	Labels []Label
	// Sentences are texts that belong together: an anchor, its positive and perhaps a
	// negative; or two whose similarity is Label, where Scored.
	Sentences []string
	Scored    bool
}

// Chat is a conversation with what else its template is given.
type Chat struct {
	chat.Chat
	Reply jinja.List
}

// Label is what a record of [Classification], [MultiLabel], [Regression] or of scored pairs has.
type Label struct {
	Name   string // of a class that is named
	Number float64
}

// IsText tells the two forms of plain language-model data apart; a record of the other form
// has a prompt and a completion.
func (r Record) IsText() bool { return r.Text != "" }
