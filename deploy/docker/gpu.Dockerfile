# docker build -f deploy/docker/gpu.Dockerfile -t hcs-nuclei:gpu .
# The CUDA libraries are wheels that the locked TensorFlow asks for, pinned by it; the driver comes from the host.
FROM python:3.11-slim
WORKDIR /opt/hcs-nuclei
COPY requirements.lock ./
RUN pip install --no-cache-dir --no-deps -r requirements.lock
RUN pip install --no-cache-dir --constraint requirements.lock "$(sed -n 's/^tensorflow==/tensorflow[and-cuda]==/p' requirements.lock)"
COPY pyproject.toml README.md LICENSE ./
COPY hcs_nuclei hcs_nuclei
COPY flows flows
RUN pip install --no-cache-dir --no-deps --no-build-isolation . \
    && useradd --create-home --uid 10001 hcs \
    && install --directory --owner hcs /home/hcs/hcs-nuclei /home/hcs/.prefect
USER 10001
ENV HCS_NUCLEI_HOME=/home/hcs/hcs-nuclei PREFECT_SERVER_ANALYTICS_ENABLED=false DO_NOT_TRACK=1 \
    NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
ENTRYPOINT ["hcs-nuclei"]
CMD ["--help"]
