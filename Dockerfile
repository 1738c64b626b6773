# The image is the binary that `make build` made, and nothing else.
#
#   make build && docker build -t systole .
#   docker run --net=host --cap-add NET_ADMIN,NET_RAW,BPF,PERFMON \
#     -v /etc/systole:/etc/systole:ro -v /var/lib/systole:/var/lib/systole \
#     -v /run/systole:/run/systole -v /sys/fs/bpf:/sys/fs/bpf systole
FROM scratch
COPY build/systole /systole
ENTRYPOINT ["/systole"]
CMD ["run", "-f", "/etc/systole/systole.yaml"]
