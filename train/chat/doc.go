// Package chat turns conversations into the text that a model was trained on, by the
// template that comes with the model, as transformers' apply_chat_template does, and says
// which parts of the text the model is to learn.
//
// [Open] finds the templates of a model directory: the files chat_template.jinja and
// additional_chat_templates/*.jinja, else chat_template in tokenizer_config.json.
// [OpenSource] takes a template from elsewhere.
// [Templates.Render] gives a text, for a prompt; [Templates.Train] gives a text with the
// spans of what the assistant says, for training. Package jinja underneath does the
// rendering.
//
// # Promises
//
// The text is that of transformers, to the character, or an error: constructs of Jinja that
// are not implemented are refused by name when the template is opened. Where a template does
// not mark the assistant's words, they are found by rendering the conversation turn by turn,
// and a template that writes an earlier turn differently when more follow is refused rather
// than guessed at.
package chat
