-- numbers: which texts are a number, an epoch or a token.
-- Clauses: B20.

local function is_hex16(text) return #text == 16 and not string.find(text, '[^0-9a-f]') end

local function whole(text, most)
  if #text > 16 or not (text == '0' or string.find(text, '^[1-9]%d*$')) then return nil end
  local v = tonumber(text)
  if v <= most then return v end
end

-- The largest time in ms, and the largest count in a bucket.
local MAX_TIME, MAX_COUNT = 99999999999999, 1000000000000

