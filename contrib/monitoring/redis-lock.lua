#!lua flags=no-writes,allow-stale
-- What `INFO lock` says, for the --script flag of redis_exporter, which leaves out the INFO sections of modules: names and
-- numbers in turn.
local metrics = {}
for name, number in string.gmatch(redis.call('INFO', 'lock'), '(lock_[%w_]+):(%-?[%d.]+)') do
    metrics[#metrics + 1] = name
    metrics[#metrics + 1] = number
end
return metrics
