package gateway

// NewBaseThrough is NewAgentBase with a proxy: that of the environment is read once a process.
var NewBaseThrough = newAgentBase
