package breakerhttp

// readerOf picks the classifier of a body by its first message: MCP for JSON-RPC, LLM for a stream of an LLM provider,
// else StatusOnly. Auto: the next message decides.
func readerOf(m message, f form) BodyClassifier {
	switch {
	case isRPC(m.text), m.name == "endpoint": // with which MCP's older transport begins
		return MCP
	case f == document:
		return StatusOnly
	case !m.some, (m.name == "ping") != (stringOf(member(m.text, "type")) == "ping"): // both are Anthropic's
		return Auto
	case isLLM(m.text):
		return LLM
	}
	return StatusOnly
}

// isLLM says that a stream that begins with text is one of OpenAI's, Anthropic's, Gemini's or Ollama's form. It is
// narrow: of a stream that it takes for one, a missing end mark is a failure.
func isLLM(text []byte) bool {
	var kind, object string
	m := map[string][]byte{}
	for name, value := range members(text) {
		switch string(name) {
		case "type":
			kind = stringOf(value)
		case "object":
			object = stringOf(value)
		case "model", "done", "choices", "candidates", "message", "response", "error":
			m[string(name)] = value
		}
	}
	switch {
	case object == "chat.completion.chunk", object == "text_completion", isChoices(m["choices"], m["model"]): // OpenAI
		return true
	case isString(m["model"]) && isBool(m["done"]): // Ollama
		return true
	}
	switch kind {
	case "response.created", "response.queued", "response.in_progress", "response.failed": // OpenAI
		return isObject(m["response"])
	case "message_start": // Anthropic
		return isObject(m["message"])
	case "ping": // Anthropic; readerOf has seen the name of the event
		return true
	case "error": // OpenAI and Anthropic, in place of their first message
		return isString(m["message"]) || isObject(m["error"])
	}
	if isString(member(m["error"], "message")) { // the others, also
		return true
	}
	for one := range elements(m["candidates"]) { // Gemini
		return member(one, "content") != nil || member(one, "finishReason") != nil
	}
	return false
}

// isChoices says that choices are OpenAI's. Azure begins with none.
func isChoices(choices, model []byte) bool {
	for one := range elements(choices) {
		return member(one, "delta") != nil || member(one, "message") != nil || member(one, "finish_reason") != nil
	}
	return isArray(choices) && isString(model)
}
