-- words: what the text of a number must be to be believed.
-- Clauses: B20.

local function whole(text, most)
  if #text > 16 or not (text == '0' or string.find(text, '^[1-9]%d*$')) then return nil end
  local v = tonumber(text)
  if v <= most then return v end
end

